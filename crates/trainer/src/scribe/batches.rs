//! Lessons as tensors: like lengths together, padded on the right, and where the model is judged.

use anyhow::Context as _;
use tch::Tensor;

use super::tokenizer::Tokens;

/// Lessons that are computed together.
pub(crate) struct Batch {
    /// `[lessons, time]`
    pub(crate) ids: Tensor,
    /// Positions in the flattened ids after which the model is judged.
    pub(crate) rows: Tensor,
    /// What comes next there.
    pub(crate) targets: Tensor,
    /// How much that counts.
    pub(crate) weights: Tensor,
    pub(crate) tokens: usize,
}

/// Groups lessons, each group at most `tokens` tokens with its padding, or one lesson.
pub(crate) fn group(mut lessons: Vec<Tokens>, tokens: usize) -> Vec<Vec<Tokens>> {
    lessons.sort_by_key(|lesson| std::cmp::Reverse(lesson.ids.len()));
    let mut groups: Vec<Vec<Tokens>> = Vec::new();
    for lesson in lessons {
        match groups.last_mut() {
            Some(group) if (group.len() + 1) * group[0].ids.len() <= tokens => group.push(lesson),
            _ => groups.push(vec![lesson]),
        }
    }
    groups
}

impl Batch {
    /// The last token of a lesson is only a target; its place holds padding, which nothing after it looks at.
    pub(crate) fn new(lessons: &[Tokens]) -> anyhow::Result<Self> {
        let time = lessons
            .iter()
            .map(|lesson| lesson.ids.len())
            .max()
            .context("an empty batch")?
            - 1;
        let mut ids = vec![0_i64; lessons.len() * time];
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (start, lesson) in (0..).step_by(time).zip(lessons) {
            for (offset, &id) in lesson.ids.iter().enumerate() {
                if offset < time {
                    ids[start + offset] = i64::from(id);
                }
                if offset >= lesson.answer {
                    rows.push(i64::try_from(start + offset - 1)?);
                    targets.push(i64::from(id));
                }
            }
        }
        let weights: Vec<f32> = lessons.iter().flat_map(|lesson| &lesson.weights).copied().collect();
        Ok(Self {
            ids: Tensor::f_from_slice(&ids)?.f_view([i64::try_from(lessons.len())?, i64::try_from(time)?])?,
            rows: Tensor::f_from_slice(&rows)?,
            targets: Tensor::f_from_slice(&targets)?,
            weights: Tensor::f_from_slice(&weights)?,
            tokens: ids.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson(length: u32, answer: usize) -> Tokens {
        Tokens::new((10..10 + length).collect(), answer)
    }

    #[test]
    fn only_the_answer_is_judged_and_each_target_is_the_next_token() {
        let batch = Batch::new(&[lesson(6, 4), lesson(4, 3)]).unwrap();
        assert_eq!(batch.ids.size(), [2, 5]);
        let ids: Vec<i64> = batch.ids.view([-1]).try_into().unwrap();
        assert_eq!(ids, [10, 11, 12, 13, 14, 10, 11, 12, 13, 0]);
        assert_eq!(Vec::<i64>::try_from(&batch.rows).unwrap(), [3, 4, 7]);
        assert_eq!(Vec::<i64>::try_from(&batch.targets).unwrap(), [14, 15, 13]);
        assert_eq!(batch.tokens, 10);
    }

    #[test]
    fn groups_hold_every_lesson_within_the_limit() {
        let groups = group([5, 100, 7, 50, 6, 49, 300].map(|length| lesson(length, 1)).into(), 120);
        let lengths: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.iter().map(|l| l.ids.len()).collect())
            .collect();
        assert_eq!(lengths, [vec![300], vec![100], vec![50, 49], vec![7, 6, 5]]);
    }
}
