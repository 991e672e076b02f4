//! `rollout watch`: the picture, drawn again as it changes, with keys to steer by; line by line into a pipe.

mod rates;
mod screen;

use std::{
    process::ExitCode,
    time::{Instant, SystemTime},
};

use anyhow::Context as _;
use console::style;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use understudy_protocol::v1::{AbortRolloutRequest, Live, PauseRolloutRequest, ResumeRolloutRequest, Rollout};

use self::{rates::Rates, screen::Screen};
use super::{
    follow::{Ended, Follow, Tell, Wait, get},
    picture::View,
    words::{self, Outcome, Until},
};
use crate::{
    output::Output,
    problem::Explain as _,
    router::{Router, admin},
};

/// What a person at the keyboard wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Quit,
    Pause,
    Resume,
    AskAbort,
    Abort,
    /// Anything but yes to the question.
    Keep,
    Redraw,
    Nothing,
}

pub(super) async fn run(router: &Router, output: &Output, model: &str, until: Until) -> anyhow::Result<ExitCode> {
    if output.is_json() || !Screen::is_there() {
        return lines(router, output, model, until).await;
    }
    let (rollout, live) = get(router, model).await?;
    let mut session = Session {
        rollout,
        live,
        rates: Rates::default(),
        started: Instant::now(),
        told: Instant::now(),
        asking: false,
        remark: String::new(),
    };
    let mut screen = Screen::open().context("cannot take over the terminal")?;
    let result = session.run(router, &mut screen, until).await;
    drop(screen);
    output.raw(session.view(usize::MAX).draw().as_bytes())?;
    let outcome = result?;
    let ended = Ended {
        outcome,
        rollout: session.rollout,
        live: session.live,
    };
    if outcome.is_none() {
        output.remark(format_args!(
            "the watch has ended, the rollout has not: `understudy rollout status {model}` shows it"
        ));
    }
    ended.verdicts().iter().for_each(|said| output.remark(said));
    Ok(ended.exit_code().into())
}

/// One line for each change and nothing else.
async fn lines(router: &Router, output: &Output, model: &str, until: Until) -> anyhow::Result<ExitCode> {
    let wait = Wait {
        until,
        timeout: None,
        tell: Tell::Answer,
    };
    let ended = wait.run(Follow::new(router, model, 0), None, output).await?;
    output.remark(words::sentence(&ended.rollout));
    ended.verdicts().iter().for_each(|said| output.remark(said));
    Ok(ended.exit_code().into())
}

struct Session {
    rollout: Rollout,
    live: Live,
    rates: Rates,
    started: Instant,
    /// When the rollout was first told as it is.
    told: Instant,
    /// Whether to abort was asked.
    asking: bool,
    /// What the last key led to.
    remark: String,
}

impl Session {
    fn view(&self, width: usize) -> View<'_> {
        View {
            rollout: &self.rollout,
            live: &self.live,
            rates: self.rates.get(),
            since: self.told.elapsed(),
            now: SystemTime::now(),
            width,
        }
    }

    /// Until it has ended or the person had enough. A pause does not end it, as a key can.
    async fn run(&mut self, router: &Router, screen: &mut Screen, until: Until) -> anyhow::Result<Option<Outcome>> {
        let model = self.rollout.model.clone();
        let mut follow = Follow::new(router, &model, 0);
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            screen.draw(&self.view(screen.width()).draw(), &self.footer())?;
            match Outcome::of(&self.rollout, until) {
                None | Some(Outcome::Paused) => {}
                Some(outcome) => return Ok(Some(outcome)),
            }
            tokio::select! {
                told = follow.next() => match told? {
                    Some((rollout, live)) => {
                        if let Some(slice) = &live.slice {
                            self.rates.push(self.started.elapsed(), slice);
                        }
                        if (rollout.number, rollout.generation) != (self.rollout.number, self.rollout.generation) {
                            self.told = Instant::now();
                        }
                        (self.rollout, self.live) = (rollout, live);
                    }
                    None => return Ok(Outcome::of(&self.rollout, until)),
                },
                event = screen.event() => match wish(&event?, self.asking) {
                    Wish::Quit => return Ok(None),
                    wish => self.grant(wish, router).await,
                },
                _ = terminate.recv() => return Ok(None),
            }
        }
    }

    /// A refusal is shown, and the view goes on.
    async fn grant(&mut self, wish: Wish, router: &Router) {
        let model = self.rollout.model.clone();
        let mut rollouts = router.rollouts();
        let reason = String::new();
        let result = match wish {
            Wish::Pause => rollouts
                .pause_rollout(admin(PauseRolloutRequest { model, reason }))
                .await
                .explain()
                .map(|answer| answer.rollout),
            Wish::Resume => rollouts
                .resume_rollout(admin(ResumeRolloutRequest { model }))
                .await
                .explain()
                .map(|answer| answer.rollout),
            Wish::Abort => {
                self.asking = false;
                let local = false;
                rollouts
                    .abort_rollout(admin(AbortRolloutRequest { model, reason, local }))
                    .await
                    .explain()
                    .map(|answer| answer.rollout)
            }
            Wish::AskAbort => {
                self.asking = true;
                return;
            }
            Wish::Keep => {
                self.asking = false;
                return;
            }
            Wish::Quit | Wish::Redraw | Wish::Nothing => return,
        };
        self.remark = match result {
            Ok(rollout) => {
                self.rollout = rollout.unwrap_or_else(|| self.rollout.clone());
                String::new()
            }
            Err(error) => format!("{error:#}"),
        };
    }

    fn footer(&self) -> String {
        if self.asking {
            return style("Give all traffic back to the stable version? y/n")
                .red()
                .bold()
                .to_string();
        }
        let keys = "q quit   p pause   r resume   a abort";
        if self.remark.is_empty() {
            style(keys).dim().to_string()
        } else {
            format!("{}   {}", style(keys).dim(), style(&self.remark).yellow())
        }
    }
}

fn wish(event: &Event, asking: bool) -> Wish {
    let key = match event {
        Event::Key(KeyEvent {
            kind: KeyEventKind::Release,
            ..
        }) => return Wish::Nothing,
        Event::Key(key) => key,
        Event::Resize(..) => return Wish::Redraw,
        _ => return Wish::Nothing,
    };
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
        KeyCode::Char('y') if asking => Wish::Abort,
        _ if asking => Wish::Keep,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char('p') => Wish::Pause,
        KeyCode::Char('r') => Wish::Resume,
        KeyCode::Char('a') => Wish::AskAbort,
        _ => Wish::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(character: char) -> Event {
        Event::Key(KeyEvent::new(KeyCode::Char(character), KeyModifiers::NONE))
    }

    #[test]
    fn only_yes_aborts() {
        assert_eq!(wish(&press('a'), false), Wish::AskAbort);
        assert_eq!(wish(&press('y'), false), Wish::Nothing);
        assert_eq!(wish(&press('y'), true), Wish::Abort);
        for other in ['n', 'a', 'q', 'p', ' '] {
            assert_eq!(wish(&press(other), true), Wish::Keep, "{other}");
        }
        let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!(wish(&interrupt, true), Wish::Quit);
        assert_eq!(wish(&press('q'), false), Wish::Quit);
        assert_eq!(wish(&press('p'), false), Wish::Pause);
        assert_eq!(wish(&press('r'), false), Wish::Resume);
        assert_eq!(wish(&Event::Resize(80, 24), false), Wish::Redraw);
    }
}
