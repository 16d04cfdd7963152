//! Where does chance come from, when every run must repeat?

/// Above these, what is drawn is drawn from the normal distribution, which is as good there.
const EXACT_MEAN_MAX: f64 = 12.0;
const EXACT_TRIALS_MAX: u64 = 12;

/// A small seeded generator (splitmix64): good enough for draws, never for secrets.
#[derive(Clone, Debug)]
pub struct Dice {
    state: u64,
}

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice { state: seed }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A draw from [0, 1).
    pub fn share(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.number() % bound }
    }

    /// From the standard normal distribution (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.share(), self.share());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// How often something happens that happens so often on average. Many cost as much as few.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        if mean > EXACT_MEAN_MAX {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.share(), 0);
        while product > limit {
            product *= self.share();
            count += 1;
        }
        count
    }

    /// How many of so many it happens to, each with this chance.
    pub fn binomial(&mut self, of: u64, chance: f64) -> u64 {
        let (n, p) = (of as f64, chance.clamp(0.0, 1.0));
        if p <= 0.0 || of == 0 {
            return 0;
        }
        if p >= 1.0 {
            return of;
        }
        if of <= EXACT_TRIALS_MAX {
            return (0..of).filter(|_| self.share() < p).count() as u64;
        }
        if n * p <= EXACT_MEAN_MAX {
            return self.poisson(n * p).min(of);
        }
        if n * (1.0 - p) <= EXACT_MEAN_MAX {
            return of - self.poisson(n * (1.0 - p)).min(of);
        }
        let drawn = n * p + (n * p * (1.0 - p)).sqrt() * self.normal();
        (drawn.round().max(0.0) as u64).min(of)
    }
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draws = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.number()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn shares_stay_inside_the_unit_interval_and_spread() {
        let mut dice = Dice::new(1);
        let shares: Vec<f64> = (0..10_000).map(|_| dice.share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        let mean = shares.iter().sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "mean {mean}");
    }

    #[test]
    fn many_at_once_are_as_many_as_one_by_one() {
        let mut dice = Dice::new(3);
        for (of, chance) in [(10, 0.3), (100, 0.02), (100, 0.97), (10_000, 0.4)] {
            let rounds = 2_000;
            let sum: u64 = (0..rounds).map(|_| dice.binomial(of, chance)).sum();
            let (mean, expected) = (sum as f64 / f64::from(rounds), of as f64 * chance);
            assert!((mean - expected).abs() < 0.06 * expected + 0.05, "{of} {chance}: {mean}");
        }
        let sum: u64 = (0..20_000).map(|_| dice.poisson(0.02)).sum();
        assert!((300..500).contains(&sum), "{sum}");
        let sum: u64 = (0..2_000).map(|_| dice.poisson(70.0)).sum();
        assert!((138_000..142_000).contains(&sum), "{sum}");
    }
}
