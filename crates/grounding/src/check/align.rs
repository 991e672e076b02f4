//! Which label a figure belongs to: "119 are positive and 101 negative", "positive reviews number 119, negative 101",
//! "positive and negative reviews number 119 and 101".

use std::ops::Range;

use super::labels::Label;
use super::token::{Kind, Token};

/// How far apart the tokens of a sentence are.
pub(super) struct Distances {
    before: Vec<usize>,
}

impl Distances {
    pub(super) fn new(tokens: &[Token<'_>]) -> Self {
        let mut before = vec![0];
        let mut sum = 0;
        let mut transparent = 0;
        for (at, token) in tokens.iter().enumerate() {
            if token.is("(") && at >= transparent {
                // "46 (2.5%) are uncertain": short brackets are as good as not there.
                let inside = tokens.iter().skip(at).take(7);
                let plain = inside
                    .clone()
                    .take_while(|token| !token.is(")"))
                    .all(|token| !token.among("and for on"));
                transparent = inside
                    .clone()
                    .position(|token| token.is(")"))
                    .filter(|_| plain)
                    .map_or(at, |end| at + end + 1);
            }
            sum += match token.lower.as_str() {
                _ if at < transparent => 0,
                "," | ")" | ":" | "and" | "than" => 4,
                "(" => 0,
                _ if token.kind == Kind::Sign => 0,
                _ => 1,
            };
            before.push(sum);
        }
        Self { before }
    }

    fn between(&self, one: &Range<usize>, other: &Range<usize>) -> usize {
        let (first, second) = if one.start < other.start {
            (one, other)
        } else {
            (other, one)
        };
        let at = |index: usize| self.before.get(index).copied().unwrap_or_default();
        at(second.start).saturating_sub(at(first.end))
    }
}

/// A label at tokens; labels of one identity are the same.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) tokens: Range<usize>,
    pub(super) identity: usize,
}

/// A mark for each label; labels that say the same have one identity.
pub(super) fn marks<'a, T: PartialEq + 'a>(labels: impl Iterator<Item = &'a Label<T>> + Clone) -> Vec<Mark> {
    let identity = |label: &Label<T>| labels.clone().position(|other| other.what == label.what);
    let mark = |label: &'a Label<T>| Mark {
        tokens: label.tokens.clone(),
        identity: identity(label).unwrap_or_default(),
    };
    labels.clone().map(mark).collect()
}

#[derive(Clone, Copy)]
enum Element {
    Label(usize),
    Group(usize),
}

/// The label of each group, where one is clear. Both lists are in the order of the sentence.
pub(super) fn align(labels: &[Mark], groups: &[Range<usize>], distances: &Distances) -> Vec<Option<usize>> {
    let mut aligned = vec![None; groups.len()];
    // "176 confident": what follows directly is the figure's own.
    let own = |group: &Range<usize>| labels.iter().position(|label| label.tokens.start == group.end);
    let (adjoined, open): (Vec<usize>, Vec<usize>) =
        (0..groups.len()).partition(|group| own(&groups[*group]).is_some());
    if !adjoined.is_empty() && !open.is_empty() {
        for group in adjoined {
            aligned[group] = own(&groups[group]);
        }
        let free: Vec<usize> = (0..labels.len())
            .filter(|label| {
                !aligned
                    .iter()
                    .flatten()
                    .any(|taken: &usize| labels[*taken].identity == labels[*label].identity)
            })
            .collect();
        let marks: Vec<Mark> = free.iter().map(|label| labels[*label].clone()).collect();
        let ranges: Vec<Range<usize>> = open.iter().map(|group| groups[*group].clone()).collect();
        for (group, label) in open.into_iter().zip(align(&marks, &ranges, distances)) {
            aligned[group] = label.map(|label| free[label]);
        }
        return aligned;
    }
    let elements = elements(labels, groups);
    let kinds: Vec<bool> = elements
        .iter()
        .map(|element| matches!(element, Element::Label(_)))
        .collect();
    let half = elements.len() / 2;
    let even = elements.len().is_multiple_of(2) && !elements.is_empty();
    let alternating = even && kinds.windows(2).all(|pair| pair[0] != pair[1]);
    let in_order = even
        && half > 1
        && kinds[..half].iter().all(|kind| *kind == kinds[0])
        && kinds[half..].iter().all(|kind| *kind != kinds[0]);
    if alternating {
        for pair in elements.chunks(2) {
            assign(&mut aligned, pair[0], pair[1]);
        }
    } else if in_order {
        for index in 0..half {
            assign(&mut aligned, elements[index], elements[half + index]);
        }
    } else {
        nearest(labels, groups, distances, &elements, &mut aligned);
    }
    aligned
}

/// Labels and groups as they follow each other; a label that is repeated at once counts once, where it is nearest.
fn elements(labels: &[Mark], groups: &[Range<usize>]) -> Vec<Element> {
    let mut order: Vec<(usize, Element)> = Vec::new();
    order.extend(
        labels
            .iter()
            .enumerate()
            .map(|(index, label)| (label.tokens.start, Element::Label(index))),
    );
    order.extend(
        groups
            .iter()
            .enumerate()
            .map(|(index, group)| (group.start, Element::Group(index))),
    );
    order.sort_by_key(|(start, _)| *start);
    let mut elements: Vec<Element> = Vec::new();
    for (_, element) in order {
        if let (Some(Element::Label(last)), Element::Label(label)) = (elements.last(), element)
            && labels[*last].identity == labels[label].identity
        {
            // The first of them stays for what stands before, the last for what stands after.
            if elements.len() == 1 {
                elements.pop();
            } else {
                continue;
            }
        }
        elements.push(element);
    }
    elements
}

fn assign(aligned: &mut [Option<usize>], one: Element, other: Element) {
    if let (Element::Label(label), Element::Group(group)) | (Element::Group(group), Element::Label(label)) =
        (one, other)
    {
        aligned[group] = Some(label);
    }
}

/// Pairs what is nearest first; each label and each group once.
fn nearest(
    labels: &[Mark],
    groups: &[Range<usize>],
    distances: &Distances,
    elements: &[Element],
    aligned: &mut [Option<usize>],
) {
    let mut pairs = Vec::new();
    for (position, element) in elements.iter().enumerate() {
        let Element::Label(label) = *element else { continue };
        let around = position.saturating_sub(2)..(position + 3).min(elements.len());
        for near in around {
            if let Element::Group(group) = elements[near] {
                let distance = distances.between(&labels[label].tokens, &groups[group]);
                pairs.push((distance, near < position, label, group));
            }
        }
    }
    pairs.sort_unstable();
    let mut taken = vec![false; labels.len()];
    for (_, _, label, group) in pairs {
        if !taken[label] && aligned[group].is_none() {
            taken[label] = true;
            aligned[group] = Some(label);
        }
    }
}
