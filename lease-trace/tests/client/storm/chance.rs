//! Numbers by chance, the same ones from the same seed: xorshift64* (Vigna, 2016).

pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64, process: usize, thread: u64) -> Self {
        let own = seed ^ ((process as u64) << 32 | thread << 48 | 1);
        // Never zero, and far apart for seeds that are near each other.
        Self(own.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below the bound, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}
