//! The parent's end: starting a child, asking it, and not waiting for ever.

use std::io::{BufRead, BufReader, Read, Write};
use std::marker::PhantomData;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fmt, io, process};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ROLE_VARIABLE, Role};

/// As much of a child's last words as is quoted.
const LAST_WORDS: u64 = 2_048;

/// A child, and the pipes to and from it. Dropping it ends it.
pub(crate) struct Child<Order, Answer> {
    role: Role,
    process: process::Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    complaints: Option<JoinHandle<String>>,
    speaks: PhantomData<fn(Order) -> Answer>,
}

impl<Order: Serialize, Answer: DeserializeOwned> Child<Order, Answer> {
    /// Executes this program again.
    pub(crate) fn start(role: Role) -> Result<Child<Order, Answer>, Failure> {
        if super::is_unentered_child() {
            return Err(Failure("a child does not start children: call pollmark::child::enter first in main".into()));
        }
        let failed = |error: io::Error| Failure(format!("cannot start the {} process: {error}", role.name()));
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        // The argument is for whoever looks at the list of processes.
        command.arg(format!("{}-child", role.name())).env(ROLE_VARIABLE, role.name());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        apart(&mut command);
        let mut process = command.spawn().map_err(failed)?;
        let output = process.stdout.take().expect("piped above");
        let errors = process.stderr.take().expect("piped above");
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let complaints = Some(thread::spawn(move || {
            let mut words = String::new();
            let mut errors = BufReader::new(errors);
            let _ = errors.by_ref().take(LAST_WORDS).read_to_string(&mut words);
            let _ = io::copy(&mut errors, &mut io::sink());
            words
        }));
        let orders = process.stdin.take();
        Ok(Child { role, process, orders, answers, complaints, speaks: PhantomData })
    }

    /// Gives an order, and waits for the answer, at most for `patience`.
    pub(crate) fn ask(&mut self, order: &Order, patience: Duration) -> Result<Answer, Failure> {
        let mut line = serde_json::to_vec(order).expect("orders have no map keys and no failing parts");
        line.push(b'\n');
        let Some(orders) = &mut self.orders else { return Err(self.gone()) };
        if orders.write_all(&line).and_then(|()| orders.flush()).is_err() {
            return Err(self.gone());
        }
        match self.answers.recv_timeout(patience) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| {
                Failure(format!("the {} process said {line:?}: call pollmark::child::enter first", self.role.name()))
            }),
            Err(RecvTimeoutError::Timeout) => {
                Err(Failure(format!("the {} process did not answer for {} s", self.role.name(), patience.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    /// Says how it ended.
    fn gone(&mut self) -> Failure {
        let name = self.role.name();
        self.orders = None;
        // Its input is closed, so it is about to end; only killed, it could not say how.
        for _ in 0..100 {
            match self.process.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                _ => break,
            }
        }
        let _ = self.process.kill();
        let status = self.process.wait().map(|status| status.to_string()).unwrap_or_default();
        let words = self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        match words.trim() {
            "" => Failure(format!("the {name} process has ended ({status})")),
            words => Failure(format!("the {name} process has ended ({status}): {words}")),
        }
    }
}

impl<Order, Answer> Drop for Child<Order, Answer> {
    fn drop(&mut self) {
        // It would end by itself when its input closes; killed, it ends before the next visit begins.
        self.orders = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a terminal's Ctrl-C from the children: the parent decides when a visit ends.
fn apart(command: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    #[cfg(windows)]
    {
        use std::os::windows::process::CommandExt;
        const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
        command.creation_flags(CREATE_NEW_PROCESS_GROUP);
    }
}

/// Why a child is of no more use.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
