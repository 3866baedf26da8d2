//! The child's end of the pipe. When it closes, whoever gave the orders is gone, and the child goes too.

use std::io::{self, BufRead, Write};
use std::process;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::foreign;

/// Reads orders on a thread of its own, so that the end of the input ends the process whatever it is doing: a parent
/// that was killed leaves nothing running. An order that `at_once` says it has obeyed, on that thread, waits for no
/// other.
pub(super) fn orders<T: DeserializeOwned + Send + 'static>(
    at_once: impl Fn(&T) -> bool + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_slice(line.as_bytes()) {
                Ok(order) if at_once(&order) => {}
                Ok(order) => {
                    if sender.send(order).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    eprintln!("cannot understand the order {line:?}: {error}");
                    leave(2);
                }
            }
        }
        leave(0);
    });
    receiver
}

/// Ends this process, and before it the server it has started, if it has.
fn leave(code: i32) -> ! {
    let _nothing_is_started = foreign::end();
    process::exit(code)
}

pub(super) fn answer<T: Serialize>(answer: &T) {
    let mut line = serde_json::to_vec(answer).expect("answers have no map keys and no failing parts");
    line.push(b'\n');
    let mut output = io::stdout().lock();
    if output.write_all(&line).and_then(|()| output.flush()).is_err() {
        // Nobody reads any more.
        leave(0);
    }
}
