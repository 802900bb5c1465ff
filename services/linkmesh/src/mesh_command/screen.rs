//! A terminal that is drawn anew in place, until its reader has seen enough.
//!
//! Whatever happens, it is left as it was found: the modes are put back when the value is dropped.

use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::SpecialCodeIndex;
use rustix::termios::Termios;
use tokio_util::sync::CancellationToken;

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first column of the first line; what is left of a line; what is left below.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";
const REST_BELOW: &str = "\x1b[J";
/// How long one look for a key takes, in tenths of a second: how long leaving takes at the most.
const KEY_WAIT_TENTHS: u8 = 1;
/// What is assumed of a terminal that does not say: columns and rows.
const SIZE_DEFAULT: (usize, usize) = (100, 24);

/// A terminal in use.
pub(super) struct Screen {
    found: Termios,
    quit: CancellationToken,
    ended: Arc<AtomicBool>,
    keys: Option<JoinHandle<()>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Screen> {
        let found = termios::tcgetattr(io::stdin())?;
        let mut raw = found.clone();
        // Keys come one by one and unseen; Ctrl-C stays a signal.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = KEY_WAIT_TENTHS;
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let (quit, ended) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let (pressed, over) = (quit.clone(), Arc::clone(&ended));
        let keys = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && !is_quit_pressed() {}
            pressed.cancel();
        });
        let screen = Screen { found, quit, ended, keys: Some(keys) };
        write(ENTER)?;
        Ok(screen)
    }

    /// Shows these lines, as far as there is room for them.
    pub(super) fn draw(&self, lines: &[String]) -> io::Result<()> {
        write(&frame(lines, size()))
    }

    /// Waits until its reader has seen enough: q, or Ctrl-C.
    pub(super) async fn left(&self) {
        tokio::select! {
            () = self.quit.cancelled() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(keys) = self.keys.take() {
            // It can't panic; and if it did, the terminal is put back all the same.
            keys.join().ok();
        }
        // A terminal that is gone needs nothing put back.
        write(LEAVE).ok();
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.found).ok();
    }
}

/// Waits a moment for a key.
fn is_quit_pressed() -> bool {
    let mut key = [0];
    match io::stdin().read(&mut key) {
        Ok(1) => matches!(key[0], b'q' | b'Q'),
        Ok(_) => false,
        // The terminal is gone.
        Err(error) => error.kind() != io::ErrorKind::Interrupted,
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut terminal = io::stdout().lock();
    terminal.write_all(text.as_bytes())?;
    terminal.flush()
}

fn size() -> (usize, usize) {
    let size = termios::tcgetwinsize(io::stdout());
    let known = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(SIZE_DEFAULT, |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// What is written so that a terminal shows these lines and nothing else: over what was there, so that nothing flickers.
fn frame(lines: &[String], (columns, rows): (usize, usize)) -> String {
    let mut frame = HOME.to_owned();
    for (at, line) in lines.iter().take(rows).enumerate() {
        if at > 0 {
            frame.push_str("\r\n");
        }
        frame.extend(line.chars().filter(|c| !c.is_control()).take(columns));
        frame.push_str(REST_OF_LINE);
    }
    frame.push_str(REST_BELOW);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_and_leaves_nothing_of_the_one_before() {
        let lines = ["first line", "second\x1b[2J", "third"].map(str::to_owned);
        let frame = frame(&lines, (5, 2));
        assert_eq!(frame, "\x1b[Hfirst\x1b[K\r\nsecon\x1b[K\x1b[J");
    }
}
