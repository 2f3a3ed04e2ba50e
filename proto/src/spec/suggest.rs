//! Suggestions for misspelt names: `; did you mean `amount`?`.

/// Returns the candidate closest to a misspelt name: at most a third of its letters differ, or one. Of several equally
/// close ones it is the first in alphabetical order.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, candidates, |letters| (letters / 3).max(1))
}

/// Returns the closest candidate that differs in at most `letters_max` letters.
pub fn closest_within<'a>(
    letters_max: usize,
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    nearest(name, candidates, |_| letters_max)
}

/// Returns the closest candidate. `limit` maps the length of the longer name to the number of letters that may differ.
fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    limit: impl Fn(usize) -> usize,
) -> Option<&'a str> {
    let lower = name.trim().to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .filter_map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            let letters = lower.chars().count().max(candidate.chars().count());
            // Breaks ties between candidates that differ in case.
            let in_case = strsim::damerau_levenshtein(name.trim(), candidate);
            (distance <= limit(letters)).then_some((distance, in_case, candidate))
        })
        .min()
        .map(|(_, _, candidate)| candidate)
}

/// Returns `; did you mean `x`?` for the end of a message; empty if no candidate is close.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    as_hint(closest(name, candidates))
}

/// Returns `; did you mean `x`?` for the end of a message; empty for `None`.
pub fn as_hint(candidate: Option<&str>) -> String {
    candidate.map_or(String::new(), |candidate| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        assert_eq!(closest("kafak", ["kafka", "print"]), Some("kafka"));
        assert_eq!(
            closest("scan.startup.mod", ["scan.startup.mode", "topic"]),
            Some("scan.startup.mode")
        );
        assert_eq!(closest("elephant", ["kafka", "print"]), None);
        assert_eq!(closest("prise", ["prize", "price"]), Some("price"));
        assert_eq!(closest("größe", ["groesse", "größen"]), Some("größen"));
        assert_eq!(closest("Amount", ["amount"]), Some("amount"));
        assert_eq!(closest("amount", ["amount"]), None);
        assert_eq!(
            closest_within(1, "parallel.defualt", ["parallel.default"]),
            Some("parallel.default")
        );
        assert_eq!(closest_within(1, "paralel.defualt", ["parallel.default"]), None);
        assert_eq!(did_you_mean("c", ["a", "bc"]), "; did you mean `a`?");
        assert_eq!(did_you_mean("c", ["amount"]), "");
    }
}
