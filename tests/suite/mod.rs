//! The server suite: cases that are written once, and take whatever makes a server.
//!
//! A subject is one way of serving: a mechanism as it is, or under faults. A case gives up, with what it [`Lost`], when
//! a connection is lost; all else that is wrong is a panic. Where no fault kills, to have lost one is a failure too.

pub(crate) mod cases;
mod running;

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pollmark::backends::conformance::fault::Faults;
use pollmark::protocol::Protocol;
use pollmark::server::{Abilities, Config, Server};

pub(crate) use running::{Client, Lost, Running, connect};

/// How a case that does not panic ends.
pub(crate) type Verdict = Result<(), Lost>;

/// Longer than anything here takes; a test that meets it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A way of serving.
pub(crate) trait Subject {
    /// What it is called, to say what is skipped. No case asks for it otherwise.
    fn name(&self) -> &str;

    /// What its driver can do.
    fn abilities(&self) -> Abilities;

    /// Makes a server.
    fn bind<P: Protocol>(&self, config: Config, protocol: P) -> io::Result<Box<dyn Server>>;

    /// What it is put through.
    fn faults(&self) -> Option<&Faults>;

    /// How long silence may last.
    fn patience(&self) -> Duration {
        PATIENCE
    }

    /// How many threads a connection may wake in vain.
    fn herd(&self) -> u64 {
        0
    }

    /// Whether it can do what `case` needs. If not, that is said where it is read, whatever else is captured.
    fn can(&self, has: fn(Abilities) -> bool, case: &str, needs: &str) -> bool {
        static SAID: Mutex<Option<HashSet<String>>> = Mutex::new(None);
        let can = has(self.abilities());
        let skipped = format!("{}: skipped: {case}: it needs {needs}", self.name());
        if !can && SAID.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(skipped.clone()) {
            let _ = writeln!(io::stderr(), "{skipped}"); // nowhere is left to complain to
        }
        can
    }

    /// A server that runs.
    fn serve<P: Protocol>(&self, config: Config, protocol: P) -> Running {
        let server = self.bind(config, protocol).expect("a free port");
        Running::start(server, self.faults().cloned(), self.patience()).with_herd(self.herd())
    }
}

/// Makes a test of every case: `$run` is a function that is generic over nothing, called as `$run!(case)`.
macro_rules! suite {
    ($run:ident) => {
        $run! {
            bytes_come_back_exactly_however_they_are_split,
            more_than_all_buffers_hold_comes_back_whole,
            a_half_closed_peer_is_answered_in_full_and_then_closed,
            a_peer_that_never_reads_is_not_read_from_without_end_and_hurts_nobody,
            a_paused_reader_is_resumed_when_its_peer_reads,
            whoever_asks_for_much_at_once_gets_all_of_it_as_it_takes_it,
            resets_and_vanishing_peers_end_their_own_connection_only,
            many_connections_are_served_at_once,
            connections_beyond_the_limit_are_closed_at_once_and_the_others_kept,
            one_server_listens_on_several_addresses_and_on_ipv6,
            a_socket_made_elsewhere_is_served_like_an_accepted_one,
            a_socket_made_elsewhere_counts_against_the_limit,
            a_stopped_server_answers_no_more_questions_and_nobody_waits_for_ever,
            a_protocol_may_speak_first_wait_close_and_abort,
            what_one_connection_sends_to_another_arrives_without_its_asking,
            mail_from_any_thread_arrives_in_order_and_keeps_no_server_from_ending,
            whoever_takes_no_mail_is_given_up_and_keeps_nobody_waiting,
            a_deadline_is_met_while_bytes_go_on_coming,
            no_knob_set_to_nothing_breaks_the_server,
            every_request_costs_few_waits,
            a_burst_is_accepted_whole_by_every_policy_the_driver_has,
            a_protocol_may_outlive_its_peers_half_close,
            a_deadline_is_met_while_its_peer_takes_nothing,
            a_server_that_has_returned_holds_no_copy_of_its_protocol,
            a_protocol_that_asks_is_told_its_peers_true_address,
            a_trusted_proxy_says_who_the_peer_is,
            nobody_is_heard_who_is_no_trusted_proxy_or_names_nobody,
            an_idle_connection_is_closed_at_its_deadline,
            whoever_says_nothing_or_not_all_of_it_is_closed_at_the_deadline,
            a_message_that_is_not_complete_in_time_ends_its_connection,
            a_peer_that_takes_nothing_is_reset_at_the_deadline,
            no_connection_outlives_the_total_deadline,
            a_half_closed_connection_that_nobody_ends_meets_its_deadline,
            deadlines_that_fall_together_end_all_of_them_and_those_far_away_wake_nobody,
            connections_beyond_the_limit_may_wait_for_a_place,
            connections_beyond_the_limit_may_be_told_so,
            what_was_asked_before_the_end_is_answered_in_full,
            a_message_under_way_may_be_finished_and_nobody_more_is_taken_on,
            whoever_is_in_the_queue_is_taken_on_before_the_end,
            a_drain_ends_at_its_deadline_or_when_it_is_told_to_stop,
        }
    };
}

/// The same of messages without connections, at addresses of their own.
macro_rules! suite_of_datagrams {
    ($run:ident) => {
        $run! {
            messages_of_every_length_come_back_each_for_itself,
            a_burst_of_messages_is_answered_whole_and_each_once,
            a_message_too_long_is_counted_and_not_answered_in_part,
            messages_that_came_before_the_end_are_answered,
            messages_on_a_unix_socket_come_back_to_those_who_have_a_name,
        }
    };
}
