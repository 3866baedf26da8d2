//! What holds for the whole: servers on every mechanism, and the rules of the house.

mod house;
mod server;
