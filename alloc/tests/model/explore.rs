//! Running a model in many orders.

use std::sync::{Mutex, PoisonError};

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

use crate::world;

/// The same orders each time, so that a run that fails fails again; `SHUTTLE_RANDOM_SEED` chooses others.
const SEED: u64 = 0x7e44_ace5;
/// Runs in random order, and as many again, in halves, with few changes of priority; `MODEL_ROUNDS` sets another number.
const ROUNDS: usize = 4000;

/// The heap is one for the process, so the models take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Runs `model` in many orders; panics in the first that breaks it, after printing the order, which `MODEL_REPLAY` repeats.
///
/// Three kinds of orders: any thread at every step (finds what needs many switches in a row), and PCT's, in which a thread runs until a
/// random step takes its priority away (finds what needs two or three switches at the right places, however long the way there is).
pub(crate) fn explore(model: fn()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    terrace::model::install(&world::HOOKS);
    let rounds = match std::env::var("MODEL_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("MODEL_ROUNDS is a number"),
        Err(_) => ROUNDS,
    };
    // A first run opens the window and grows the first arena, which later ones find.
    run(RandomScheduler::new_from_seed(SEED, 1), model);
    if let Ok(order) = std::env::var("MODEL_REPLAY") {
        run(ReplayScheduler::new_from_encoded(order.trim()), model);
        return;
    }
    run(RandomScheduler::new_from_seed(SEED, rounds), model);
    for depth in [3, 4] {
        run(PctScheduler::new_from_seed(SEED, depth, rounds / 2), model);
    }
}

fn run(scheduler: impl Scheduler + 'static, model: fn()) {
    let mut config = Config::new();
    // Frames of an unoptimised build.
    config.stack_size = 512 << 10;
    config.silence_warnings = true;
    // A run takes some hundred steps; one that takes so many hangs.
    config.max_steps = MaxSteps::FailAfter(50_000);
    Runner::new(scheduler, config).run(move || {
        world::begin();
        model();
        world::end();
    });
}
