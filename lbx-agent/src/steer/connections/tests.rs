//! The shares in closed loop with a pool whose flows come and go.

use lbx_common::hash::mix;

use super::*;

/// Seconds of a window.
const WINDOW: u32 = 30;

/// A pool with flows, in steps of a second.
struct Pool {
    /// Mean duration of the flows of each endpoint, in seconds.
    durations: Vec<f64>,
    loads: Vec<Load>,
    random: u64,
    tables: u32,
}

impl Pool {
    fn new(weights: &[u8], durations: &[f64]) -> Self {
        let load = |&weight: &u8| Load { weight, share: WHOLE, before: 0, arrived: 0, live: 0, mean: 0.0 };
        let loads = weights.iter().map(load).collect();
        Self { durations: durations.to_vec(), loads, random: 7, tables: 0 }
    }

    /// A number from 0 to 1.
    fn random(&mut self) -> f64 {
        self.random = mix(self.random.wrapping_add(0x9e37_79b9_7f4a_7c15));
        f64::from(u32::try_from(self.random >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// A window in which so many flows begin each second, and what follows from it.
    fn window(&mut self, flows_per_second: u32) {
        for load in &mut self.loads {
            (load.before, load.arrived, load.mean) = (load.live, 0, 0.0);
        }
        for _ in 0..WINDOW {
            for place in 0..self.loads.len() {
                let ends = 1.0 - (-1.0 / self.durations[place]).exp();
                let ended = (0..self.loads[place].live).filter(|_| self.random() < ends).count();
                self.loads[place].live -= u32::try_from(ended).unwrap();
            }
            for _ in 0..flows_per_second {
                let parts: Vec<f64> =
                    self.loads.iter().map(|one| one.weight() * f64::from(one.share)).collect();
                let mut at = self.random() * parts.iter().sum::<f64>();
                let last = parts.len() - 1;
                let place = parts.iter().position(|part| {
                    at -= part;
                    at < 0.0
                });
                let load = &mut self.loads[place.unwrap_or(last)];
                load.arrived += 1;
                load.live += 1;
            }
            for load in &mut self.loads {
                load.mean += f64::from(load.live) / f64::from(WINDOW);
            }
        }
        if let Some(shares) = shares(&self.loads) {
            self.tables += 1;
            for (load, share) in self.loads.iter_mut().zip(shares) {
                load.share = share;
            }
        }
    }

    /// The largest number of live flows a unit of weight, over the smallest.
    fn spread(&self) -> f64 {
        let each = self.loads.iter().map(|load| f64::from(load.live) / load.weight());
        let (low, high) = each.fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(one), high.max(one)));
        high / low
    }

    /// The spread over some windows, on average: a single look at some hundred flows is off by some percent.
    fn mean_spread(&mut self, flows_per_second: u32, windows: u32) -> f64 {
        let sum: f64 = (0..windows)
            .map(|_| {
                self.window(flows_per_second);
                self.spread()
            })
            .sum();
        sum / f64::from(windows)
    }
}

#[test]
fn an_endpoint_that_holds_its_flows_ten_times_longer_ends_with_as_many() {
    for (short, flows, to_settle) in [(2.0, 400, 14), (30.0, 100, 42), (60.0, 50, 72)] {
        let mut pool = Pool::new(&[100, 100, 100], &[short, short, short * 10.0]);
        for _ in 0..to_settle {
            pool.window(flows);
        }
        let spread = pool.mean_spread(flows, 10);
        assert!(spread < 1.2, "flows of {short} s: {spread}, {:?}", pool.loads);
    }
}

#[test]
fn live_flows_follow_the_weights() {
    let mut pool = Pool::new(&[100, 50], &[30.0, 120.0]);
    for _ in 0..30 {
        pool.window(100);
    }
    let spread = pool.mean_spread(100, 10);
    assert!(spread < 1.2, "{spread}, {:?}", pool.loads);
}

#[test]
fn where_flows_are_even_tables_stay() {
    let mut pool = Pool::new(&[100, 100, 100, 100], &[60.0; 4]);
    for _ in 0..40 {
        pool.window(100);
    }
    assert!(pool.tables <= 4, "{} tables in 40 windows", pool.tables);
}

#[test]
fn one_that_comes_without_flows_catches_up_and_does_not_overshoot() {
    let mut pool = Pool::new(&[100, 100, 100], &[600.0; 3]);
    for _ in 0..60 {
        pool.window(20);
    }
    pool.loads[2].live = 0;
    pool.loads[2].share = WHOLE;
    let mut highest = 0.0_f64;
    for _ in 0..60 {
        pool.window(20);
        highest = highest.max(f64::from(pool.loads[2].live) / f64::from(pool.loads[0].live));
    }
    assert!(highest < 1.2, "{highest}");
    assert!(pool.spread() < 1.2, "{:?}", pool.loads);
}

#[test]
fn without_new_flows_or_without_anybody_else_nothing_changes() {
    let load = Load { weight: 100, share: WHOLE, before: 90, arrived: 0, live: 90, mean: 90.0 };
    assert_eq!(shares(&[load, Load { before: 1, live: 1, ..load }]), None);
    assert_eq!(shares(&[Load { arrived: 500, ..load }]), None);
    assert_eq!(shares(&[]), None);
}

#[test]
fn whatever_is_counted_there_is_a_share_for_each() {
    let numbers = [0, 1, 7, 1_000_000, u32::MAX];
    let triples = (0..125).map(|n| [n % 5, n / 5 % 5, n / 25].map(|place| numbers[place]));
    for [a, b, c] in triples {
        let loads = [
            Load { weight: 1, share: 1, before: a, arrived: b, live: c, mean: f64::from(b) },
            Load { weight: 100, share: WHOLE, before: c, arrived: a, live: b, mean: f64::from(a) },
        ];
        if let Some(shares) = shares(&loads) {
            assert!(
                shares.len() == 2 && shares.contains(&WHOLE) && !shares.contains(&0),
                "{loads:?}: {shares:?}"
            );
        }
    }
}
