//! Confusion matrices.

use anyhow::ensure;

use super::unit::thousands;
use super::*;

/// Longest name of a class.
const LABEL_MAX: usize = 24;
/// Width of a cell that "of the row" fits into.
const SPACIOUS: usize = 116;

/// How often each class was said of each.
pub(crate) struct Confusion<'a> {
    pub(crate) labels: &'a [String],
    /// `counts[truth][said]`.
    pub(crate) counts: &'a [Vec<usize>],
}

/// Pixels.
struct Layout {
    left: usize,
    top: usize,
    cell: (usize, usize),
    /// Whether the names of columns are wider than these, and stand upright.
    turned: bool,
}

impl Layout {
    fn of(labels: &[String], counts: &[Vec<usize>]) -> Self {
        let longest = CHARACTER * labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let highest = counts.iter().flatten().copied().max().unwrap_or(0);
        let least = (10 * thousands(highest as f64).len()).max(56);
        let left = longest + 50;
        let width = ((WIDTH as usize).saturating_sub(left + 24) / labels.len().max(1))
            .min(190)
            .max(least);
        let turned = longest + 8 > width;
        Self {
            left,
            top: if turned { longest + 46 } else { 54 },
            cell: (width, (width / 2).clamp(44, 72)),
            turned,
        }
    }

    fn spacious(&self) -> bool {
        self.cell.0 >= SPACIOUS
    }
}

impl Confusion<'_> {
    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let classes = self.labels.len();
        ensure!(classes > 0, "a confusion matrix of no classes");
        let labels: Vec<String> = self.labels.iter().map(|label| shortened(label, LABEL_MAX)).collect();
        let layout = Layout::of(&labels, self.counts);
        let (left, top, (cell, row)) = (layout.left, layout.top, layout.cell);
        let at = |x: usize, y: usize| -> anyhow::Result<(i32, i32)> { Ok((i32::try_from(x)?, i32::try_from(y)?)) };
        let upright = |size: i32| {
            TextStyle::from(("sans-serif", size).into_font().transform(FontTransform::Rotate270)).color(&INK)
        };
        let centred = |style| anchored(style, HPos::Center, VPos::Center);
        let width = u32::try_from(left + classes * cell + 24)?;
        let height = u32::try_from(top + classes * row + 12)?;
        draw((width, height), Vec::new(), |root| {
            let said = if layout.spacious() {
                "said"
            } else {
                "said, with its share of the row"
            };
            root.draw_text(said, &centred(font(NAME, MUTED)), at(left + classes * cell / 2, 14)?)?;
            let place = at(16, top + classes * row / 2)?;
            root.draw_text("true", &centred(upright(NAME).color(&MUTED)), place)?;
            for (truth, (counts, label)) in self.counts.iter().zip(&labels).enumerate() {
                let y = top + truth * row;
                let all: usize = counts.iter().sum();
                let style = anchored(font(NAME, INK), HPos::Right, VPos::Center);
                root.draw_text(label, &style, at(left - 10, y + row / 2)?)?;
                let above = left + truth * cell + cell / 2;
                if layout.turned {
                    let style = anchored(upright(NAME), HPos::Left, VPos::Center);
                    root.draw_text(label, &style, at(above, top - 8)?)?;
                } else {
                    root.draw_text(label, &centred(font(NAME, INK)), at(above, top - 16)?)?;
                }
                for (said, &count) in counts.iter().enumerate() {
                    let x = left + said * cell;
                    let share = if all == 0 { 0.0 } else { count as f64 / all as f64 };
                    let shade = colour(usize::from(said != truth)).mix(0.06 + 0.5 * share).filled();
                    let corners = [at(x + 1, y + 1)?, at(x + cell - 1, y + row - 1)?];
                    root.draw(&Rectangle::new(corners, shade))?;
                    let (x, y) = at(x + cell / 2, y + row / 2)?;
                    root.draw_text(&thousands(count as f64), &centred(font(19, INK)), (x, y - 9))?;
                    let of = if layout.spacious() { " of the row" } else { "" };
                    let share = format!("{:.1}%{of}", 100.0 * share);
                    root.draw_text(&share, &centred(font(TICK, INK)), (x, y + 10))?;
                }
            }
            Ok(())
        })
    }
}
