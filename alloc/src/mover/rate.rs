//! The migration budget: a token bucket of bytes.
//!
//! Zone: control.

/// Bytes per second, with at most half a second saved up.
pub struct TokenBucket {
    per_second: u64,
    tokens: u64,
    filled: u64,
}

impl TokenBucket {
    /// A full bucket of `mbps` MB/s (10⁶ bytes).
    pub fn new(mbps: u32, now: u64) -> TokenBucket {
        let per_second = u64::from(mbps).max(1) * 1_000_000;
        TokenBucket { per_second, tokens: per_second / 2, filled: now }
    }

    /// Bytes that may be moved now.
    pub fn available(&mut self, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.filled);
        let new = (u128::from(elapsed) * u128::from(self.per_second) / 1_000_000_000) as u64;
        if new > 0 {
            self.tokens = (self.tokens + new).min(self.per_second / 2);
            self.filled = now;
        }
        self.tokens
    }

    /// Accounts for bytes moved; more than available is taken from the future.
    pub fn take(&mut self, bytes: u64) {
        self.tokens = self.tokens.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_no_more_than_the_rate_is_handed_out() {
        let mut bucket = TokenBucket::new(100, 0);
        let mut sum = 0;
        for tick in 1..=1000u64 {
            let got = bucket.available(tick * 10_000_000);
            bucket.take(got);
            sum += got;
        }
        // Ten seconds at 100 MB/s and the initial half second.
        assert!((1_000_000_000..=1_050_000_000).contains(&sum), "{sum}");
    }

    #[test]
    fn saving_up_is_limited() {
        let mut bucket = TokenBucket::new(100, 0);
        assert_eq!(bucket.available(3_600_000_000_000), 50_000_000);
    }
}
