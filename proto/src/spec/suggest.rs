//! Names that were probably meant: `; did you mean `amount`?`.

/// Returns the candidate that was probably meant by a name that is not among them: in no more than a third of its
/// letters different, or in one. Of several equally close ones it is the first in alphabetical order.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest(name, candidates, |letters| (letters / 3).max(1))
}

/// Returns the candidate that differs in so many letters at most.
pub fn closest_within<'a>(
    letters_max: usize,
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    nearest(name, candidates, |_| letters_max)
}

/// `limit` gives the number of letters that may differ, of those of the longer name.
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
            // Of those that differ in case only, the one with most letters alike.
            let in_case = strsim::damerau_levenshtein(name.trim(), candidate);
            (distance <= limit(letters)).then_some((distance, in_case, candidate))
        })
        .min()
        .map(|(_, _, candidate)| candidate)
}

/// `; did you mean `x`?` to end a message with, or nothing where no candidate is close.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    as_hint(closest(name, candidates))
}

/// A suggestion to end a message with.
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
