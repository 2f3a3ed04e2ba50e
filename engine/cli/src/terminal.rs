//! The terminal of this process: its width, and single key presses without Enter.

use std::io::{IsTerminal, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Returns the number of columns of the terminal on standard output; `None` without a terminal, or if it is unknown.
pub fn width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    // SAFETY: the structure is plain integers, and `ioctl` writes to nothing else.
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        match libc::ioctl(out.as_raw_fd(), libc::TIOCGWINSZ, &mut size) {
            0 => size,
            _ => return None,
        }
    };
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Most pressed keys that are queued.
const KEYS_MAX: usize = 16;

/// Settings of standard input before this program changed them.
static BEFORE: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Restores the terminal's settings, once.
extern "C" fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // SAFETY: these are settings that `tcgetattr` gave for this very terminal.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, &before) };
    }
}

/// A terminal in a mode that delivers each key as it is pressed, without echo. Dropping this restores the settings,
/// also during unwinding; so do `std::process::exit` and the signals of [`Self::next`]. Ctrl-C is still a signal.
pub struct Keys {
    keys: mpsc::Receiver<u8>,
    signals: [(libc::c_int, Signal); 3],
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore();
    }
}

impl Keys {
    /// Changes the terminal's mode. Returns `None` if standard input or output is not a terminal, or if this process is
    /// in the background.
    #[expect(
        clippy::disallowed_methods,
        reason = "the thread blocks in a read until the process ends"
    )]
    pub fn listen() -> Option<Self> {
        let input = std::io::stdin();
        if !input.is_terminal() || !std::io::stdout().is_terminal() || !is_in_foreground(input.as_raw_fd()) {
            return None;
        }
        // Handlers first: a signal must not end the process while the settings are changed.
        let handled = |number: libc::c_int| Some((number, signal(SignalKind::from_raw(number)).ok()?));
        let signals = [handled(libc::SIGINT)?, handled(libc::SIGTERM)?, handled(libc::SIGHUP)?];
        // SAFETY: `termios` is plain integers, written by `tcgetattr`; `restore` is a function without arguments.
        unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(input.as_raw_fd(), &mut settings) != 0 || libc::atexit(restore) != 0 {
                return None;
            }
            *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings);
            settings.c_lflag &= !(libc::ICANON | libc::ECHO);
            settings.c_cc[libc::VMIN] = 1;
            settings.c_cc[libc::VTIME] = 0;
            libc::tcsetattr(input.as_raw_fd(), libc::TCSADRAIN, &settings);
        }
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        // Reading blocks: the thread ends with the process.
        std::thread::spawn(move || {
            for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        Some(Self { keys, signals })
    }

    /// Returns the next key; `None` once the terminal is closed. A signal that ends processes restores the settings and
    /// ends this one.
    pub async fn next(&mut self) -> Option<u8> {
        let [(_, interrupt), (_, terminate), (_, hang_up)] = &mut self.signals;
        let number = tokio::select! {
            key = self.keys.recv() => return key,
            _ = interrupt.recv() => libc::SIGINT,
            _ = terminate.recv() => libc::SIGTERM,
            _ = hang_up.recv() => libc::SIGHUP,
        };
        restore();
        // SAFETY: the default handler replaces the one of the runtime; it ends the process.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
            libc::raise(number);
        }
        None
    }
}

/// Returns true if this process is in the foreground. A background process that changes the settings would be stopped.
fn is_in_foreground(terminal: RawFd) -> bool {
    // SAFETY: both take and return plain integers.
    unsafe { libc::tcgetpgrp(terminal) == libc::getpgrp() }
}
