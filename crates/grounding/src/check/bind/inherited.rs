//! The classes of a clause that names none, or speaks of them as "they" and "its".

use crate::check::clause::{Context, Hold, Reading};
use crate::check::knowledge::About;
use crate::check::labels::Label;
use crate::check::number::Figure;

impl Reading<'_> {
    fn classes_of(&self, segment: usize) -> Vec<About> {
        let mut classes: Vec<About> = Vec::new();
        for label in self.in_segment(&self.classes, segment) {
            if !classes.contains(&label.what) {
                classes.push(label.what);
            }
        }
        classes
    }

    /// The classes of the nearest segment before that names some.
    pub(super) fn earlier(&self, segment: usize) -> (Vec<About>, Hold) {
        let named = (0..segment).rev().map(|earlier| self.classes_of(earlier));
        let mut named = named.filter(|classes| !classes.is_empty());
        named
            .next()
            .map_or((Vec::new(), Hold::Free), |classes| (classes, Hold::Weak))
    }

    /// "Even the lower end of its interval, 51.5%, lies above that of the positive ones": of what was named before.
    pub(super) fn owned(&self, segment: usize, figure: &Figure, labels: &[Label<About>]) -> bool {
        let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
        let before = start.min(figure.tokens.start)..figure.tokens.start;
        labels.iter().all(|label| label.tokens.start >= figure.tokens.end)
            && self.tokens[before].iter().any(|token| token.among("its their"))
            && !self.earlier(segment).0.is_empty()
    }

    /// "Yet at 318 words they are longer than the others": of what was named before, not of what follows "than".
    pub(super) fn is_pronouns(&self, segment: usize, figure: &Figure, labels: &[Label<About>]) -> bool {
        let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
        let Some(first) = labels.first().map(|label| label.tokens.start) else {
            return false;
        };
        let than = (figure.tokens.end..first).find(|at| self.tokens[*at].is("than"));
        let subject = |than: usize| {
            self.tokens[start.min(than)..than]
                .iter()
                .any(|token| token.among("they it"))
        };
        let named = self.earlier(segment).0;
        than.is_some_and(subject)
            && !self.is_difference(figure)
            && named
                .iter()
                .any(|about| labels.iter().all(|label| label.what != *about))
    }

    /// The classes of a segment that names none.
    pub(super) fn inherited(&self, segment: usize, contexts: &[Context]) -> (Vec<About>, Hold) {
        let classes_of = |segment: usize| self.classes_of(segment);
        if let Some(Some(outer)) = self.against.get(segment) {
            // Against the figure before; or against the class, where there is one.
            let start = self.segment.iter().position(|own| *own == segment).unwrap_or_default();
            let before = self
                .figures
                .iter()
                .zip(contexts)
                .rev()
                .find(|(figure, _)| figure.tokens.end <= start);
            let bound = before
                .map(|(_, context)| context.classes.clone())
                .filter(|classes| classes.len() == 1);
            // Of two that the clause may be about, the one or the other.
            let either = before
                .map(|(_, context)| context.classes.clone())
                .filter(|classes| classes.len() == 2);
            let outer = classes_of(*outer);
            if let (Some(either), true) = (either, outer.is_empty()) {
                return (either, Hold::Weak);
            }
            let bound = bound.unwrap_or_else(|| outer.clone());
            let [About::Class(class)] = bound.as_slice() else {
                return (Vec::new(), Hold::Free);
            };
            let rest: Vec<About> = outer
                .into_iter()
                .filter(|about| *about != About::Class(*class))
                .collect();
            return match rest.as_slice() {
                [one] => (vec![*one], Hold::Strict),
                _ => (vec![About::Others(*class)], Hold::Strict),
            };
        }
        let earlier = self.earlier(segment);
        if !earlier.0.is_empty() {
            return earlier;
        }
        const PRONOUNS: &str = "they their these those them it its this that";
        let refers =
            (0..self.tokens.len()).any(|at| self.segment.get(at) == Some(&segment) && self.tokens[at].among(PRONOUNS));
        if refers && self.classes.is_empty() && !self.before.is_empty() {
            return (self.before.clone(), Hold::Weak);
        }
        (Vec::new(), Hold::Free)
    }
}
