//! Where a report's claims stand in the delivered text.
//!
//! The scribe names each claim with its sentence, in the order of the text, but not its place: the policy has marked or removed
//! sentences since. So each is looked for after the one before it: first its sentence, then itself in it.

use std::ops::Range;

use understudy_protocol::v1::Claim;

/// The place of each claim in bytes; `None` for a claim whose sentence was removed.
pub(super) fn places(text: &str, claims: &[Claim]) -> Vec<Option<Range<usize>>> {
    let mut from = 0;
    let mut sentence: Option<(&str, Range<usize>)> = None;
    claims
        .iter()
        .map(|claim| {
            if claim.text.is_empty() {
                return None;
            }
            let again = sentence
                .as_ref()
                .filter(|(words, _)| *words == claim.sentence)
                .and_then(|(_, range)| find_in(text, &claim.text, from.max(range.start)..range.end));
            let place = again.or_else(|| {
                let start = from + text.get(from..)?.find(&claim.sentence)?;
                let range = start..start + claim.sentence.len();
                let place = find_in(text, &claim.text, range.clone());
                if place.is_some() {
                    sentence = Some((&claim.sentence, range));
                }
                place
            })?;
            from = place.end;
            Some(place)
        })
        .collect()
}

/// The first place that does not cut a number or a word in two.
fn find_in(text: &str, wanted: &str, range: Range<usize>) -> Option<Range<usize>> {
    let part = text.get(range.clone())?;
    let (first, last) = (wanted.chars().next()?, wanted.chars().next_back()?);
    let whole = |at: usize| {
        let before = part[..at].chars().next_back();
        let mut after = part[at + wanted.len()..].chars();
        let cut_before = before.is_some_and(|c| joins(c, first));
        let cut_after = match after.next() {
            // "3" in "3.5" and in "3,500", but not at the end of a sentence.
            Some('.' | ',') if last.is_ascii_digit() => after.next().is_some_and(|c| c.is_ascii_digit()),
            Some(c) => joins(last, c),
            None => false,
        };
        !cut_before && !cut_after
    };
    let at = part.match_indices(wanted).map(|(at, _)| at).find(|at| whole(*at))?;
    Some(range.start + at..range.start + at + wanted.len())
}

fn joins(left: char, right: char) -> bool {
    left.is_alphanumeric() && right.is_alphanumeric() || matches!(left, '.' | ',') && right.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str, sentence: &str) -> Claim {
        Claim {
            text: text.into(),
            sentence: sentence.into(),
            ..Claim::default()
        }
    }

    fn found(text: &str, claims: &[Claim]) -> Vec<Option<usize>> {
        let places = places(text, claims);
        for (place, claim) in places.iter().zip(claims) {
            if let Some(place) = place {
                assert_eq!(text[place.clone()], claim.text);
            }
        }
        places.into_iter().map(|place| place.map(|place| place.start)).collect()
    }

    #[test]
    fn each_claim_is_found_after_the_one_before() {
        let first = "Of 12,340 reviews, 2,340 are kind, and 2,340 are not.";
        let text = format!("{first} [unsupported] 12 are short. {first}");
        let claims = [
            claim("12,340", first),
            claim("2,340", first),
            claim("2,340", first),
            claim("12", "12 are short."),
            claim("2,340", first),
        ];
        let second = text.rfind("Of").unwrap();
        assert_eq!(
            found(&text, &claims),
            [Some(3), Some(19), Some(39), text.find("12 are"), Some(second + 19)]
        );
    }

    #[test]
    fn what_was_removed_is_nowhere_and_hides_nothing() {
        let text = "It is 3.5 or 3. “Ünïque” it is.";
        let claims = [
            claim("9", "It has 9."),
            claim("3", "It is 3.5 or 3."),
            claim("Ünïque", "“Ünïque” it is."),
            claim("x", "gone"),
            claim("", ""),
        ];
        assert_eq!(found(text, &claims), [None, Some(13), text.find("Ü"), None, None]);
    }
}
