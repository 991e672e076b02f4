//! What came out, as a table, as plots, and as promises held or not.

use std::{fmt::Write as _, fs, path::Path};

use plotters::prelude::*;

use crate::{
    Run,
    rules::Decision,
    scenario::{Scenario, Truth},
};

/// What a rollout promises by default.
const ALPHA: f64 = 0.05;
const BETA: f64 = 0.05;
/// The rule that the promises are about.
const PROMISED: &str = "Understudy";
/// A candidate with twice the errors is caught in so many runs within so many of its requests.
const CAUGHT: (&str, f64, u64) = ("errors × 2", 0.95, 2_000);
/// Standard deviations of a Wilson interval of 95%.
const Z: f64 = 1.96;

/// All runs of one scenario under one rule.
pub(crate) struct Cell {
    pub(crate) scenario: Scenario,
    pub(crate) rule: &'static str,
    pub(crate) runs: Vec<Run>,
}

/// Everything.
pub(crate) struct Report {
    pub(crate) cells: Vec<Cell>,
}

impl Cell {
    fn count(&self, decision: Option<Decision>) -> u64 {
        self.runs.iter().filter(|run| run.decision == decision).count() as u64
    }

    fn share(&self, decision: Option<Decision>) -> Share {
        Share {
            of: self.runs.len() as u64,
            count: self.count(decision),
        }
    }

    /// The share of runs that ended as they must not.
    fn wrong(&self) -> Share {
        match self.scenario.truth {
            Truth::NoWorse => self.share(Some(Decision::RolledBack)),
            Truth::Worse => self.share(Some(Decision::Promoted)),
        }
    }

    /// Candidate requests at the decision, ascending.
    fn requests(&self) -> Vec<u64> {
        let mut requests: Vec<u64> = self
            .runs
            .iter()
            .filter(|run| run.decision.is_some())
            .map(|run| run.candidate_requests)
            .collect();
        requests.sort_unstable();
        requests
    }
}

/// A share with its interval.
#[derive(Clone, Copy)]
struct Share {
    count: u64,
    of: u64,
}

impl Share {
    fn value(self) -> f64 {
        self.count as f64 / self.of.max(1) as f64
    }

    /// Wilson's interval.
    fn interval(self) -> (f64, f64) {
        let (n, p) = (self.of.max(1) as f64, self.value());
        let centre = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let whole = 1.0 + Z * Z / n;
        (((centre - half) / whole).max(0.0), ((centre + half) / whole).min(1.0))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.interval();
        write!(
            f,
            "{:.1}% ({:.1}–{:.1})",
            self.value() * 100.0,
            low * 100.0,
            high * 100.0
        )
    }
}

impl Report {
    /// Promises that these runs refute: the whole interval lies beyond the promised rate.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let ours = self.cells.iter().filter(|cell| cell.rule.starts_with(PROMISED));
        let mut broken = Vec::new();
        for cell in ours {
            let promised = match cell.scenario.truth {
                Truth::NoWorse => ALPHA,
                Truth::Worse => BETA,
            };
            if cell.wrong().interval().0 > promised {
                broken.push(format!("{}, {}: {} wrong", cell.scenario.name, cell.rule, cell.wrong()));
            }
        }
        if let Some(caught) = self.caught()
            && caught.interval().1 < CAUGHT.1
        {
            broken.push(format!(
                "{} caught in {caught} of the runs within {} requests",
                CAUGHT.0, CAUGHT.2
            ));
        }
        broken
    }

    fn caught(&self) -> Option<Share> {
        let cell = self
            .cells
            .iter()
            .find(|cell| cell.scenario.name == CAUGHT.0 && cell.rule.starts_with(PROMISED))?;
        let in_time = |run: &&Run| run.decision == Some(Decision::RolledBack) && run.candidate_requests <= CAUGHT.2;
        Some(Share {
            count: cell.runs.iter().filter(in_time).count() as u64,
            of: cell.runs.len() as u64,
        })
    }

    /// Writes the page and its plots.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder.join("simulation"))?;
        fs::write(folder.join("simulation.md"), self.page()?)?;
        self.plot_wrong(&folder.join("simulation/wrong.svg"))?;
        self.plot_requests(&folder.join("simulation/requests.svg"))
    }

    fn page(&self) -> anyhow::Result<String> {
        let runs = self.cells.first().map_or(0, |cell| cell.runs.len());
        let mut page = format!(
            "# Simulated rollouts\n\nWritten by `make simulate` ({runs} rollouts for each line), by the code that routers run. Traffic is 200 \
             requests a second with 1% errors unless the scenario says otherwise; a run without a decision after 200,000 requests ends \
             undecided. Promised are α = β = 5%. *Wrong* is a rollback of a candidate that is no worse, or a promotion of one that is; \
             intervals are Wilson's at 95%. Requests are those that the candidate had answered at the decision.\n\n\
             The peers' rules: 98% success and p99 within 100 ms in windows of 200 canary requests, as Flagger's and Argo's examples \
             configure it; a two-proportion z-test at 5% after each such window; Mann–Whitney on the windows' error rates and mean \
             latencies at 98% after 9,900 canary requests, as Kayenta does it. They see no mirrored answers, so a wrong label is \
             nothing to them.\n\n"
        );
        if let Some(caught) = self.caught() {
            writeln!(
                page,
                "A candidate with twice the errors was rolled back within {} of its requests in {caught} of the runs.\n",
                CAUGHT.2
            )?;
        }
        writeln!(
            page,
            "![wrong decisions](simulation/wrong.svg)\n\n![requests until a rollback](simulation/requests.svg)\n"
        )?;
        writeln!(
            page,
            "| scenario | rule | wrong | rolled back | promoted | undecided | requests, median | 95% |"
        )?;
        writeln!(page, "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")?;
        for cell in &self.cells {
            let part = |decision| format!("{:.1}%", cell.share(decision).value() * 100.0);
            let requests = cell.requests();
            let at = |percent: usize| {
                requests
                    .get(requests.len() * percent / 100)
                    .map(u64::to_string)
                    .unwrap_or_default()
            };
            writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                cell.scenario.name,
                cell.rule,
                cell.wrong(),
                part(Some(Decision::RolledBack)),
                part(Some(Decision::Promoted)),
                part(None),
                at(50),
                at(95)
            )?;
        }
        Ok(page)
    }

    fn rules(&self) -> Vec<&'static str> {
        let mut rules = Vec::new();
        for cell in &self.cells {
            if !rules.contains(&cell.rule) {
                rules.push(cell.rule);
            }
        }
        rules
    }

    /// Wrong decisions, a row for each scenario and a bar for each rule.
    fn plot_wrong(&self, file: &Path) -> anyhow::Result<()> {
        let rules = self.rules();
        let rows = self.cells.len();
        let height = u32::try_from(60 + rows * 14)?;
        let root = SVGBackend::new(file, (1_000, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .caption("Wrong decisions (line: 5%)", ("sans-serif", 18))
            .x_label_area_size(25)
            .y_label_area_size(360)
            .build_cartesian_2d(0.0..1.0, 0.0..rows as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .x_label_formatter(&|share| format!("{:.0}%", share * 100.0))
            .draw()?;
        let name = TextStyle::from(("sans-serif", 12).into_font());
        for (row, cell) in self.cells.iter().enumerate() {
            let (top, rule) = (
                (rows - row) as f64,
                rules.iter().position(|rule| *rule == cell.rule).unwrap_or(0),
            );
            let colour = Palette99::pick(rule).filled();
            chart.draw_series([Rectangle::new(
                [(0.0, top - 0.15), (cell.wrong().value(), top - 0.85)],
                colour,
            )])?;
            let y = 40 + i32::try_from(row)? * i32::try_from(height - 85)? / i32::try_from(rows)?;
            root.draw_text(&format!("{} · {}", cell.scenario.name, cell.rule), &name, (10, y))?;
        }
        chart.draw_series(LineSeries::new(
            [(ALPHA, 0.0), (ALPHA, rows as f64)],
            BLACK.stroke_width(1),
        ))?;
        root.present()?;
        Ok(())
    }

    /// Of our runs with more errors: the share rolled back after so many canary requests.
    fn plot_requests(&self, file: &Path) -> anyhow::Result<()> {
        let root = SVGBackend::new(file, (800, 420)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .caption(
                "Rolled back by the candidate's requests (5% canary)",
                ("sans-serif", 18),
            )
            .x_label_area_size(35)
            .y_label_area_size(45)
            .build_cartesian_2d(0.0..4_000.0, 0.0..1.0)?;
        chart
            .configure_mesh()
            .x_desc("requests of the candidate")
            .y_label_formatter(&|share| format!("{:.0}%", share * 100.0))
            .draw()?;
        let ours = self.cells.iter().filter(|cell| {
            cell.rule.starts_with(PROMISED)
                && cell.rule.contains("5% canary")
                && cell.scenario.name.starts_with("errors")
        });
        for (number, cell) in ours.enumerate() {
            let rolled_back = cell
                .runs
                .iter()
                .filter(|run| run.decision == Some(Decision::RolledBack));
            let mut requests: Vec<f64> = rolled_back.map(|run| run.candidate_requests as f64).collect();
            requests.sort_by(f64::total_cmp);
            let all = cell.runs.len() as f64;
            let points = requests
                .iter()
                .enumerate()
                .map(|(index, &at)| (at, (index + 1) as f64 / all));
            let colour = Palette99::pick(number).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.filter(|(at, _)| *at <= 4_000.0), colour))?
                .label(cell.scenario.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
        root.present()?;
        Ok(())
    }
}
