//! What holds for the whole: servers on every mechanism, and the rules of the house.

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod compare;
mod house;
#[cfg(feature = "cli")]
mod load;
mod readme;
#[cfg(feature = "cli")]
mod report;
mod server;
