//! Requests and responses of HTTP, and what is neither, in any pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pollmark::properties::protocol::{Said, requests_are_answered_alike};
use pollmark::properties::responses::responses_end_alike;

fuzz_target!(|said: Said| {
    requests_are_answered_alike(&said);
    responses_end_alike(&said);
});
