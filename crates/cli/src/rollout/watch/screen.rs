//! The terminal, taken over for a time and given back however the view ends.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use console::truncate_str;
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event},
    execute, queue,
    style::Print,
    terminal::{
        self, BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use tokio::sync::mpsc;

/// How soon the reader of keys notices that it is no longer wanted.
const POLL: Duration = Duration::from_millis(100);
/// Keys that are not looked at yet.
const EVENTS_MAX: usize = 16;

pub(super) struct Screen {
    events: mpsc::Receiver<io::Result<Event>>,
    closed: Arc<AtomicBool>,
}

impl Screen {
    /// Whether a person sees and types.
    pub(super) fn is_there() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    pub(super) fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let closed = Arc::new(AtomicBool::new(false));
        // From here on, dropping it gives the terminal back.
        let screen = Self {
            events,
            closed: closed.clone(),
        };
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        thread::Builder::new()
            .name("keys".into())
            .spawn(move || read(&sender, &closed))?;
        Ok(screen)
    }

    pub(super) fn width(&self) -> usize {
        size().0
    }

    /// What a person typed, or that the terminal has another size.
    pub(super) async fn event(&mut self) -> io::Result<Event> {
        match self.events.recv().await {
            Some(event) => event,
            None => Err(io::Error::other("the terminal is gone")),
        }
    }

    /// The page from the top, as far as it fits, and the footer on the last line.
    pub(super) fn draw(&self, page: &str, footer: &str) -> io::Result<()> {
        let (width, height) = size();
        let mut out = io::stdout().lock();
        queue!(out, BeginSynchronizedUpdate)?;
        let lines = page.lines().take(height.saturating_sub(2));
        let mut row = 0;
        for line in lines {
            queue!(out, MoveTo(0, row), Clear(ClearType::CurrentLine), Print(line))?;
            row += 1;
        }
        let last = u16::try_from(height.saturating_sub(1)).unwrap_or(u16::MAX);
        queue!(
            out,
            MoveTo(0, row),
            Clear(ClearType::FromCursorDown),
            MoveTo(0, last),
            Print(truncate_str(footer, width, "…")),
            EndSynchronizedUpdate
        )?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // There is nobody left to be told if it fails.
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// Columns and rows.
fn size() -> (usize, usize) {
    let (width, height) = terminal::size().unwrap_or((80, 24));
    (width.into(), height.into())
}

fn read(sender: &mpsc::Sender<io::Result<Event>>, closed: &AtomicBool) {
    while !closed.load(Ordering::Relaxed) {
        let event = match event::poll(POLL) {
            Ok(true) => event::read(),
            Ok(false) => continue,
            Err(error) => Err(error),
        };
        let failed = event.is_err();
        if sender.blocking_send(event).is_err() || failed {
            return;
        }
    }
}
