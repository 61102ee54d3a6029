//! Random numbers that are the same for every number of threads: each chunk of records has its own stream.
//!
//! Generator: xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators"), seeded by
//! splitmix64. Skewed choices go through an alias table (Walker; Vose): one number, one comparison, whatever the
//! number of outcomes.

/// One step of splitmix64, also used as a bijection of 64-bit numbers.
pub fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// xoshiro256++.
pub struct Random {
    state: [u64; 4],
    /// The second number of the last pair of normals.
    spare: Option<f64>,
}

impl Random {
    /// Stream number `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let start = mix(seed ^ mix(stream));
        let state = [1, 2, 3, 4].map(|i| mix(start.wrapping_add(i)));
        Random { state, spare: None }
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * self.unit()).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    /// Log-normal: `exp` of a normal with this mean and deviation.
    pub fn log_normal(&mut self, mean: f64, deviation: f64) -> f64 {
        (mean + deviation * self.normal()).exp()
    }
}

/// Draws outcomes with given weights.
pub struct Weighted {
    /// For each slot: below this, the slot itself; else its alias.
    slots: Vec<(u32, u32)>,
}

impl Weighted {
    /// Outcome `i` with a probability proportional to `weights[i]`.
    pub fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let total: f64 = weights.iter().sum();
        let mut share: Vec<f64> = weights.iter().map(|w| w * n as f64 / total).collect();
        let mut slots: Vec<(u32, u32)> = (0..n).map(|i| (u32::MAX, i as u32)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| share[i] < 1.0);
        while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
            small.pop();
            slots[s] = ((share[s] * f64::from(u32::MAX)) as u32, l as u32);
            share[l] -= 1.0 - share[s];
            if share[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        Weighted { slots }
    }

    /// Zipf: rank `r` (from 1) with weight `r ^ -exponent`, ranks dealt to outcomes at random.
    pub fn zipf(outcomes: usize, exponent: f64, seed: u64) -> Self {
        let mut weights: Vec<f64> = (1..=outcomes).map(|r| (r as f64).powf(-exponent)).collect();
        let mut random = Random::new(seed, 0);
        for i in (1..outcomes).rev() {
            weights.swap(i, random.below(i + 1));
        }
        Self::new(&weights)
    }

    /// One outcome.
    pub fn draw(&self, random: &mut Random) -> usize {
        let bits = random.bits();
        let slot = (((bits >> 32) * self.slots.len() as u64) >> 32) as usize;
        let (limit, alias) = self.slots[slot];
        if (bits as u32) < limit { slot } else { alias as usize }
    }
}
