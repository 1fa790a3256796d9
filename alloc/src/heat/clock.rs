//! The two clocks of the control thread.
//!
//! Zone: control.

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a live timespec; a constant valid clock cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// Monotonic time in ns.
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Processor time that the calling thread has used, in ns.
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_while_the_thread_works() {
        let (now, cpu) = (now_ns(), thread_cpu_ns());
        let mut x = 1u64;
        while thread_cpu_ns() == cpu {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(now_ns() > now);
    }
}
