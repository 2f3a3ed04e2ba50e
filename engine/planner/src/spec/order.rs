//! Topological order of steps: each step is planned after the steps it reads.

use std::collections::{BTreeSet, HashMap};

/// A step with its dependencies.
pub(super) struct Reads<'a> {
    pub name: &'a str,
    /// Names of the relations that the step reads; names that are not steps are ignored.
    pub relations: BTreeSet<String>,
}

/// Returns the indices of the steps, each after those it reads, else in the given order; and each cycle of steps as a
/// path that ends with its first step. Steps of a cycle are part of the order too.
pub(super) fn order(steps: &[Reads<'_>]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut by_name = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        // A second step of the same name is reported elsewhere.
        by_name.entry(step.name).or_insert(index);
    }
    let reads: Vec<Vec<usize>> = steps
        .iter()
        .map(|step| {
            let indices = step.relations.iter().filter_map(|name| by_name.get(name.as_str()));
            indices.copied().collect()
        })
        .collect();
    let mut ordered = Vec::with_capacity(steps.len());
    let mut circles = Vec::new();
    let mut state = vec![State::New; steps.len()];
    for start in 0..steps.len() {
        if state[start] != State::New {
            continue;
        }
        state[start] = State::OnPath;
        // Path of the depth-first search: a step, and the index of its next dependency.
        let mut path = vec![(start, 0)];
        while let Some((step, next)) = path.last_mut() {
            let step = *step;
            let Some(read) = reads[step].get(*next).copied() else {
                state[step] = State::Ordered;
                ordered.push(step);
                path.pop();
                continue;
            };
            *next += 1;
            match state[read] {
                State::Ordered => {}
                State::New => {
                    state[read] = State::OnPath;
                    path.push((read, 0));
                }
                State::OnPath => {
                    let way = path.iter().map(|(step, _)| *step).skip_while(|step| *step != read);
                    circles.push(way.chain([read]).collect());
                }
            }
        }
    }
    (ordered, circles)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Ordered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(steps: &[(&str, &[&str])], expected: &str) {
        let reads: Vec<Reads<'_>> = steps
            .iter()
            .map(|(name, relations)| Reads {
                name,
                relations: relations.iter().map(|name| (*name).to_owned()).collect(),
            })
            .collect();
        let names = |indices: &[usize]| {
            indices
                .iter()
                .map(|index| steps[*index].0)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (ordered, circles) = order(&reads);
        let circles: String = circles.iter().map(|circle| format!("; {}", names(circle))).collect();
        assert_eq!(format!("{}{circles}", names(&ordered)), expected);
    }

    #[test]
    fn steps_come_after_those_they_read() {
        check(&[("a", &["t"]), ("b", &["a"]), ("c", &[])], "a b c");
        check(&[("c", &["b", "a"]), ("b", &["a"]), ("a", &["t"])], "a b c");
        check(&[("a", &["b"]), ("b", &["a"])], "b a; a b a");
        check(
            &[("x", &["a"]), ("a", &["b"]), ("b", &["a"]), ("s", &["s"])],
            "b a x s; a b a; s s",
        );
    }
}
