//! When to move: what was counted, priced in instructions, and a rule that cannot be made to move for nothing.
//!
//! # The prices
//!
//! A wait with N sources watched, and the changes made since the one before, cost beyond what they cost anyway
//!
//! | | first: poll(2) | second: epoll(7), kqueue(2) | counted for the second |
//! |---|---|---|---|
//! | the wait | 490 N | 2,700 | 2,000 to 2,800: it sleeps and looks twice |
//! | an add, and what it adds to the close(2) in the end | 0 | 6,000 | 2,600 to 3,000 |
//! | a modify, a remove | 0 | 1,000 | 760; 1,500 |
//! | a move of all N | 6,000 + 3,000 N | as the first | 5,400, and an add each |
//!
//! in instructions, the kernel's and ours, of Linux 6.1 on x86-64 in an emulator that counts them: `benches/icount`. A
//! newer kernel has fewer of all of them (poll(2) of 9,000 sources takes 509 for each there, and 431 on 6.18), so that
//! it is the proportions that matter, and these can be wrong by a third: where the two sides cost the same, the
//! difference of a source or two is less than 5 % of a request, whose send(2) and recv(2) take 12,000.
//!
//! Only the add is not priced as counted. At the lower price a server whose few connections come and go would change to
//! epoll(7) with its third or fourth; at this one it stays on poll(2) up to some ten, at 5.4 calls a connection instead
//! of 6.4, and its instructions differ by less than 2 %. A server with steady connections leaves poll(2) at its sixth
//! source, the listener and the waker among them.
//!
//! # The rule
//!
//! This is the problem of renting skis or buying them, played again and again: two places, a rent in each that is known
//! only afterwards, and a fare D between them: here, what a move of all sources costs.
//!
//! The *excess* is what being here has cost more than being there would have. It grows and falls with each wait, but
//! stays within -D and D. When it reaches D, we move; there, it begins at -D. That is the work function algorithm for
//! two states, and pays at most three times what the best possible player pays who knows the future (Borodin, Linial
//! and Saks: An Optimal On-Line Algorithm for Metrical Task Systems, 1992). What follows from it directly:
//!
//! - A load that stays the same makes at most one move, and after it nothing is paid but the lower rent.
//! - Between two moves the excess has risen by 2 D. So whoever makes us move, by alternating loads or by hovering about
//!   the threshold, has first had us overpay twice the fare: moves add at most half of what was overpaid.
//! - It needs no clock, no average and no threshold: a wait of 9,000 sources weighs 3,000 times one of three, and moves
//!   us as much sooner.
//!
//! The fare depends on how many there are; the bounds are then those of the largest fare in between. The tests below
//! play against it, random loads and an adversary, with the optimum computed.

/// When the sources of an [`Adaptive`](super::Adaptive) poller are to move.
///
/// A policy sees counts only; a test may move by chance. It is part of every wait, so it should be quick.
pub trait Policy {
    /// Asked before every wait, except while a source that only the first mechanism takes leaves no choice: whether to
    /// move now.
    fn moves(&mut self, load: &Load) -> bool;

    /// The move just asked for could not be made, and everything is as before.
    fn refused(&mut self) {}
}

/// Where the sources are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// With the mechanism it begins with: poll(2).
    First,
    /// With the other: epoll(7) or kqueue(2).
    Second,
}

impl Side {
    /// The side they would move to.
    pub const fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }
}

/// What was counted since the policy was last asked, and how things are now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Load {
    /// Where the sources are.
    pub on: Side,
    /// Sources watched: those a move would take along.
    pub watched: usize,
    /// Events of the last wait.
    pub events: u64,
    /// Sources added.
    pub adds: u64,
    /// Registrations modified.
    pub modifies: u64,
    /// Sources removed, those closed left out: closing them is one call either way.
    pub removes: u64,
}

impl Load {
    pub(super) const fn new(on: Side) -> Load {
        Load { on, watched: 0, events: 0, adds: 0, modifies: 0, removes: 0 }
    }

    /// What the last wait, and the changes since, cost on either side beyond what they cost on both.
    fn prices(&self) -> (i64, i64) {
        let first = SOURCE * self.watched as i64;
        let changes = ADD * self.adds as i64 + CHANGE * (self.modifies + self.removes) as i64;
        (first, WAIT + changes)
    }

    /// What a move would cost.
    fn fare(&self) -> i64 {
        MOVE + MOVED * self.watched as i64
    }
}

/// poll(2), of a source in a wait.
const SOURCE: i64 = 490;

/// The second, of a wait.
const WAIT: i64 = 2_700;

/// The second, of a source that is added and in the end closed.
const ADD: i64 = 6_000;

/// The second, of any other change.
const CHANGE: i64 = 1_000;

/// Of a move, for opening one mechanism and closing the other.
const MOVE: i64 = 6_000;

/// Of a move, for each source.
const MOVED: i64 = 3_000;

/// Moves when being elsewhere would by now have paid for the journey: the rule of this file.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Where the excess was counted.
    on: Side,
    excess: i64,
    /// Attempts in a row that were refused. Each doubles the fare, so that trying never costs more than staying.
    refusals: u32,
}

/// Below any fare.
const NOTHING_YET: i64 = i64::MIN / 2;

/// More than this would be for ever.
const MOST_REFUSALS: u32 = 16;

impl Default for Counted {
    fn default() -> Counted {
        Counted { on: Side::First, excess: NOTHING_YET, refusals: 0 }
    }
}

impl Policy for Counted {
    #[inline]
    fn moves(&mut self, load: &Load) -> bool {
        if load.on != self.on {
            *self = Counted { on: load.on, ..Counted::default() };
        }
        let (first, second) = load.prices();
        let overpaid = if load.on == Side::First { first - second } else { second - first };
        let fare = load.fare() << self.refusals;
        self.excess = (self.excess + overpaid).max(-fare);
        self.excess >= fare
    }

    #[cold]
    fn refused(&mut self) {
        self.excess = NOTHING_YET;
        self.refusals = (self.refusals + 1).min(MOST_REFUSALS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What happens between two questions.
    #[derive(Clone, Copy, Default, Debug)]
    struct Step {
        watched: usize,
        events: u64,
        adds: u64,
        modifies: u64,
    }

    impl Step {
        fn on(self, on: Side) -> Load {
            let Step { watched, events, adds, modifies } = self;
            Load { on, watched, events, adds, modifies, removes: 0 }
        }
    }

    /// A policy at play, and beside it the best that a player could do who knows what comes.
    struct Game {
        policy: Counted,
        on: Side,
        paid: i64,
        /// By the best player, who is now here or there.
        best: (i64, i64),
        moves: u64,
        /// Since the last move: what was overpaid at most, and the largest fare.
        stay: (i64, i64),
    }

    impl Game {
        fn new() -> Game {
            Game {
                policy: Counted::default(),
                on: Side::First,
                paid: 0,
                best: (0, i64::MAX / 4),
                moves: 0,
                stay: (0, 0),
            }
        }

        fn play(&mut self, step: Step) {
            let load = step.on(self.on);
            let (first, second) = load.prices();
            let fare = load.fare();
            self.paid += if self.on == Side::First { first } else { second };
            let (here, there) = self.best;
            self.best = (here.min(there + fare) + first, there.min(here + fare) + second);

            let overpaid = if self.on == Side::First { first - second } else { second - first };
            self.stay = ((self.stay.0 + overpaid).max(0), self.stay.1.max(fare));
            if self.policy.moves(&load) {
                assert!(self.stay.0 >= fare, "moved after having overpaid {}, for {fare}", self.stay.0);
                self.on = self.on.other();
                (self.paid, self.moves, self.stay) = (self.paid + fare, self.moves + 1, (0, 0));
            }
        }

        fn best(&self) -> i64 {
            self.best.0.min(self.best.1)
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0_usize..40, 0_u64..4, 0_u64..3, 0_u64..3, 1_usize..400);
        let step = step
            .prop_map(|(watched, events, adds, modifies, times)| vec![Step { watched, events, adds, modifies }; times]);
        prop::collection::vec(step, 1..40).prop_map(|runs| runs.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_load_it_pays_a_few_times_the_least_possible(steps in steps()) {
            let mut game = Game::new();
            steps.iter().for_each(|step| game.play(*step));
            let spare = 2 * Step { watched: 40, ..Step::default() }.on(Side::First).fare();
            prop_assert!(game.paid <= 3 * game.best() + spare, "{} for {}", game.paid, game.best());
        }
    }
    /// Whoever knows the policy can do no worse to it than this: the load that is dear where it is, every time.
    #[test]
    fn an_adversary_makes_it_pay_three_times_the_least_possible_and_no_more() {
        let mut game = Game::new();
        for _ in 0..100_000 {
            let dear = match game.on {
                Side::First => Step { watched: 20, ..Step::default() },
                Side::Second => Step { watched: 20, adds: 2, ..Step::default() },
            };
            game.play(dear);
        }
        let times = game.paid as f64 / game.best() as f64;
        assert!(game.moves > 100 && (1.5..3.1).contains(&times), "{times} times the least, {} moves", game.moves);
    }

    #[test]
    fn from_one_connection_to_nine_thousand_and_back_it_moves_once_each_way() {
        let mut game = Game::new();
        let up = (1..=9_000).map(|watched| Step { watched: 2 + watched, events: 2, adds: 1, modifies: 0 });
        let down = (1..=9_000).rev().map(|watched| Step { watched: 2 + watched, events: 1, ..Step::default() });
        up.for_each(|step| game.play(step));
        assert_eq!((game.on, game.moves), (Side::Second, 1));
        down.for_each(|step| game.play(step));
        let few = Step { watched: 3, events: 1, ..Step::default() };
        let waits = (0..1_000)
            .take_while(|_| {
                game.play(few);
                game.moves < 2
            })
            .count();
        assert_eq!((game.on, game.moves), (Side::First, 2), "still there after {waits} waits with few");
        (0..10_000).for_each(|_| game.play(few));
        assert_eq!(game.moves, 2);
    }

    #[test]
    fn a_load_that_stays_the_same_ends_on_the_cheaper_side_after_one_move_at_most() {
        for watched in (0..30).chain([100, 9_000]) {
            for (events, adds, modifies) in [(1, 0, 0), (8, 0, 0), (2, 1, 0), (4, 3, 1)] {
                let step = Step { watched, events, adds, modifies };
                let mut game = Game::new();
                (0..20_000).for_each(|_| game.play(step));
                let (first, second) = step.on(Side::First).prices();
                let cheaper = if first > second { Side::Second } else { Side::First };
                let differ = (first - second).abs() > 20; // In so few waits a smaller difference does not pay a fare.
                assert!(
                    game.on == cheaper || !differ,
                    "{step:?}: {first} against {second}, and it is on {:?}",
                    game.on
                );
                assert!(game.moves <= 1, "{step:?}: {} moves", game.moves);
            }
        }
    }

    /// About the threshold the two cost nearly the same, so it takes long to overpay two fares.
    #[test]
    fn hovering_about_the_threshold_moves_hardly_ever() {
        let mut game = Game::new();
        let waits = 100_000;
        for at in 0..waits {
            // Too few and too many by turns, for a hundred waits each.
            let watched = if at / 100 % 2 == 0 { 5 } else { 6 };
            game.play(Step { watched, events: 1, ..Step::default() });
        }
        assert!(game.moves <= 1, "{} moves in {waits} waits", game.moves);
    }

    #[test]
    fn what_is_refused_is_tried_again_later_and_later() {
        let mut policy = Counted::default();
        let many = Step { watched: 1_000, events: 1, ..Step::default() }.on(Side::First);
        let mut attempts = Vec::new();
        for wait in 0..100_000 {
            if policy.moves(&many) {
                attempts.push(wait);
                policy.refused();
            }
        }
        let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(attempts.len() >= 8 && pauses.is_sorted_by(|one, next| 19 * one <= 10 * next), "{attempts:?}");
        // Moved at last, it starts afresh.
        assert!(!policy.moves(&Load { on: Side::Second, ..many }) && policy.refusals == 0);
    }
}
