//! A pseudo terminal for the client: tests read its output and press keys.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};

use crate::test_cluster::until;

pub struct Terminal {
    user: File,
    /// The client's end, which keeps the terminal settings after the client has ended.
    client: OwnedFd,
    shown: Arc<Mutex<String>>,
    child: Option<Child>,
}

impl Terminal {
    /// Runs a command on a new terminal with so many columns.
    pub fn run(mut command: Command, columns: u16) -> Self {
        let size = libc::winsize {
            ws_row: 40,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut user, mut client) = (0, 0);
        let (none, unnamed) = (std::ptr::null_mut::<libc::termios>(), std::ptr::null_mut());
        // SAFETY: `openpty` reads the size and writes two descriptors, which are owned from here on.
        let (user, client) = unsafe {
            let opened = libc::openpty(&mut user, &mut client, unnamed, none, &size as *const _ as *mut _);
            assert_eq!(opened, 0, "a pseudo terminal can be opened");
            (OwnedFd::from_raw_fd(user), OwnedFd::from_raw_fd(client))
        };
        let end = || client.try_clone().expect("a descriptor can be copied");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: both calls may be made between fork and exec: the process leads a session on this terminal.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().expect("engine-cli is built beside this test");
        let user = File::from(user);
        let shown: Arc<Mutex<String>> = Arc::default();
        let (mut reader, screen) = (
            user.try_clone().expect("a descriptor can be copied"),
            Arc::clone(&shown),
        );
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                screen.lock().expect("no reader has panicked").push_str(&text);
            }
        });
        Self {
            user,
            client,
            shown,
            child: Some(child),
        }
    }

    /// Returns all output so far.
    pub fn shown(&self) -> String {
        self.shown.lock().expect("no reader has panicked").clone()
    }

    pub fn press(&mut self, key: u8) {
        self.user.write_all(&[key]).expect("the terminal is open");
    }

    /// Returns true if the terminal delivers single keys without echo instead of lines.
    pub fn is_raw(&self) -> bool {
        // SAFETY: the structure is plain integers, written by `tcgetattr`.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.client.as_raw_fd(), &mut settings), 0);
            settings
        };
        settings.c_lflag & (libc::ICANON | libc::ECHO) == 0
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it is there until the end");
        let mut status = None;
        until("the client ends", || {
            status = child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(None))
        {
            let killed = child.kill().and_then(|()| child.wait());
            assert!(killed.is_ok() || std::thread::panicking(), "{killed:?}");
        }
    }
}
