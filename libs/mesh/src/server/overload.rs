//! What the concurrency limit is for, in simulated time: a backend that is asked for three times what it can do.
//!
//! The backend works first come, first served, as most do, and its callers wait 300 ms. Without a limit whatever it begins has
//! waited so long that nobody waits for the end of it.

use super::concurrency::Limiter;
use super::concurrency::Permit;
use crate::methods::METHODS;
use crate::policy::Concurrency;
use crate::policy::Criticality;
use std::collections::VecDeque;
use std::time::Duration;
use tonic::Code;

/// How many calls the backend works on at a time, and how long each takes: 1,000 calls a second.
const WORKERS: usize = 20;
const SERVICE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(300);
const STEP: Duration = Duration::from_micros(100);
/// What is looked at: the last 20 of 30 seconds.
const WARM_UP: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(30);

struct Call {
    came: Duration,
    criticality: Criticality,
    permit: Permit,
}

#[derive(Debug, Default)]
struct Tally {
    critical: usize,
    critical_answered: usize,
    answered: usize,
    slowest_critical: Duration,
}

/// `rate` calls a second, a tenth of them critical and a half sheddable.
fn run(policy: &Concurrency, rate: usize) -> Tally {
    let limiter = Limiter::new();
    let method = METHODS.of_path("/linkmesh.links.v1.LinksService/GetLink");
    let mut queue: VecDeque<Call> = VecDeque::new();
    let mut workers: Vec<Option<(Duration, Call)>> = (0..WORKERS).map(|_| None).collect();
    let mut tally = Tally::default();
    let (mut now, mut number) = (Duration::ZERO, 0);
    while now < END {
        now += STEP;
        for worker in &mut workers {
            if let Some((_, call)) = worker.take_if(|(done, _)| *done <= now) {
                end(call, now, &mut tally);
            }
        }
        // Who no longer waits is not worked on.
        while queue.front().is_some_and(|call| call.came + PATIENCE <= now) {
            end(queue.pop_front().expect("it is there"), now, &mut tally);
        }
        while Duration::from_secs(1) * number < now * u32::try_from(rate).unwrap() {
            number += 1;
            let criticality = match number % 10 {
                0 => Criticality::Critical,
                1..=5 => Criticality::Sheddable,
                _ => Criticality::Normal,
            };
            let counts = now > WARM_UP && criticality == Criticality::Critical;
            tally.critical += usize::from(counts);
            if let Ok(permit) = limiter.admit(method, criticality, policy) {
                queue.push_back(Call { came: now, criticality, permit });
            }
        }
        for worker in workers.iter_mut().filter(|worker| worker.is_none()) {
            *worker = queue.pop_front().map(|call| (now + SERVICE, call));
        }
    }
    tally
}

fn end(call: Call, now: Duration, tally: &mut Tally) {
    let took = now - call.came;
    let in_time = took < PATIENCE;
    let code = if in_time { Code::Ok } else { Code::DeadlineExceeded };
    call.permit.finish(code, took, now);
    if now <= WARM_UP || !in_time {
        return;
    }
    tally.answered += 1;
    if call.criticality == Criticality::Critical {
        tally.critical_answered += 1;
        tally.slowest_critical = tally.slowest_critical.max(took);
    }
}

const ADAPTIVE: Concurrency = Concurrency { calls_max: 1_024, adaptive: true, calls_min: 16 };
const FIXED: Concurrency = Concurrency { adaptive: false, ..ADAPTIVE };
/// What the backend can do in the 20 s.
const CAPACITY: usize = 20_000;

#[test]
fn three_times_too_much_leaves_what_can_be_done_done_and_what_is_critical_answered_soon() {
    let tally = run(&ADAPTIVE, 3_000);
    assert!(tally.answered > CAPACITY * 9 / 10, "{tally:?}");
    assert!(tally.critical_answered > tally.critical * 99 / 100, "{tally:?}");
    assert!(tally.slowest_critical < Duration::from_millis(150), "{tally:?}");
}

#[test]
fn without_the_limit_nearly_nothing_is_done_in_time() {
    let tally = run(&FIXED, 3_000);
    assert!(tally.answered < CAPACITY / 4, "{tally:?}");
    assert!(tally.critical_answered < tally.critical / 4, "{tally:?}");
}

#[test]
fn what_can_be_done_is_not_held_back() {
    for rate in [100, 500, 900] {
        let tally = run(&ADAPTIVE, rate);
        assert!(tally.answered + 20 >= rate * 20, "{rate}: {tally:?}");
    }
}
