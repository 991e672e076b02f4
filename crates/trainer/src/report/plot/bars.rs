//! Named values, one below the other.

use anyhow::ensure;

use super::*;

/// Longest name beside its value; longer ones stand above.
const BESIDE_MAX: usize = 36;
/// Longest name above.
const ABOVE_MAX: usize = 96;

/// One row of [`Bars`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// From and to.
    pub(crate) interval: Option<(f64, f64)>,
}

/// What stands for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Bars from zero.
    Bars,
    /// Dots over the range of the values.
    Dots,
    /// Dots, and a line at zero.
    Differences,
}

/// Named values, each with its interval, one below the other.
pub(crate) struct Bars<'a> {
    pub(crate) x: &'a str,
    pub(crate) unit: Unit,
    pub(crate) rows: &'a [Bar],
    pub(crate) marks: Marks,
}

impl Bars<'_> {
    fn range(&self) -> Range<f64> {
        let ends = self.rows.iter().flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.value, row.value));
            [low, row.value, high]
        });
        match self.marks {
            Marks::Bars => 0.0..range(None, ends, 0.08).end.max(f64::MIN_POSITIVE),
            Marks::Dots => range(None, ends, 0.08),
            Marks::Differences => range(None, ends.chain([0.0]), 0.08),
        }
    }

    pub(crate) fn svg(&self) -> anyhow::Result<Plot> {
        let rows = self.rows.len();
        ensure!(rows > 0, "a plot of no rows");
        let longest = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let beside = longest <= BESIDE_MAX;
        // Pixels: of the names, of a row, and from a row's upper end to the middle of its bar.
        let (left, row_height, down) = if beside {
            (longest * CHARACTER + 16, 30, 15.0)
        } else {
            (12, 50, 33.0)
        };
        let height = 62 + row_height * u32::try_from(rows)?;
        let pixel = 1.0 / f64::from(row_height);
        let x = self.range();
        draw((WIDTH, height), Vec::new(), |root| {
            let span = x.end - x.start;
            let mut chart = ChartBuilder::on(root)
                .margin(8)
                .margin_right(24)
                .x_label_area_size(46)
                .y_label_area_size(u32::try_from(left)?)
                .build_cartesian_2d(x.clone(), 0.0..rows as f64)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .light_line_style(RULE.mix(0.0))
                .bold_line_style(RULE)
                .axis_style(MUTED)
                .x_labels(8)
                .x_label_style(font(TICK, MUTED))
                .axis_desc_style(font(NAME, INK))
                .x_desc(self.x)
                .x_label_formatter(&|value| self.unit.write(*value, span))
                .draw()?;
            if self.marks == Marks::Differences {
                let zero = [(0.0, 0.0), (0.0, rows as f64)];
                chart.draw_series(DashedLineSeries::new(zero, 5, 4, MUTED.stroke_width(1)))?;
            }
            for (index, row) in self.rows.iter().enumerate() {
                let top = (rows - index) as f64;
                let middle = top - down * pixel;
                if self.marks == Marks::Bars {
                    let ends = [(0.0, middle - 9.0 * pixel), (row.value, middle + 9.0 * pixel)];
                    chart.draw_series([Rectangle::new(ends, colour(0).mix(0.55).filled())])?;
                }
                if let Some((low, high)) = row.interval {
                    let end = |x: f64| [(x, middle - 5.0 * pixel), (x, middle + 5.0 * pixel)];
                    let paths = [[(low, middle), (high, middle)], end(low), end(high)];
                    chart.draw_series(paths.map(|path| PathElement::new(path, INK.stroke_width(2))))?;
                }
                if self.marks != Marks::Bars {
                    chart.draw_series([Circle::new((row.value, middle), 5, colour(0).filled())])?;
                }
                let name = font(NAME, INK);
                if beside {
                    let (x, y) = chart.backend_coord(&(x.start, middle));
                    root.draw_text(&row.name, &anchored(name, HPos::Right, VPos::Center), (x - 8, y))?;
                } else {
                    let (x, y) = chart.backend_coord(&(x.start, top - 14.0 * pixel));
                    let shown = shortened(&row.name, ABOVE_MAX);
                    root.draw_text(&shown, &anchored(name, HPos::Left, VPos::Center), (x, y))?;
                }
            }
            Ok(())
        })
    }
}
