//! Shares of new flows that bring endpoints to equal numbers of live ones, each by its weight.
//!
//! A table can only say who gets the flows to come. So the question is asked forwards: how many of the flows that an
//! endpoint has now will be left after the next window, how many of those that begin in it, and which shares of these
//! make the sums equal? The first follows from how many ended in the last window. Shares go half of the way there (in
//! logarithms), since the counts of one window are a sample.

/// The share of an endpoint that gets all that its weight says: others get so many of as many parts of theirs.
pub const WHOLE: u8 = u8::MAX;

/// No endpoint gets more than this many times what its weight says, nor less than this part of it: one that comes with
/// no flow at all would get every new one, and one that gets none would never show that its flows end.
const MOST: f64 = 4.0;
const LEAST: f64 = 1.0 / 16.0;

/// Shares stay where they would bring flows that differ by no more than this part of the mean, or than chance makes of it.
const EVEN: f64 = 0.08;

/// Flows that count beside those of an endpoint itself when it is estimated how fast its flows end: such as end like those
/// of the pool.
const PRIOR: f64 = 4.0;

/// What was counted at an endpoint that takes flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Its weight in hundredths, 1 to 100.
    pub weight: u8,
    /// The share that it has, 1 to [`WHOLE`].
    pub share: u8,
    /// Live flows when the window began.
    pub before: u32,
    /// Flows that began in the window.
    pub arrived: u32,
    /// Live flows now.
    pub live: u32,
    /// Mean of the live flows at all looks of the window: of short ones a single look shows little.
    pub mean: f64,
}

impl Load {
    fn weight(&self) -> f64 {
        f64::from(self.weight)
    }

    /// Flows that ended in the window.
    fn ended(&self) -> f64 {
        f64::from(self.before) + f64::from(self.arrived) - f64::from(self.live)
    }
}

/// What becomes of an endpoint's flows in a window like the last one.
struct Outlook {
    weight: f64,
    /// Flows of now that will be left.
    kept: f64,
    /// Part of the flows that begin in it that will be left.
    of_new: f64,
}

/// The shares that endpoints of a pool are to have, in their order; `None` = as they are.
pub fn shares(loads: &[Load]) -> Option<Vec<u8>> {
    let arrived: f64 = loads.iter().map(|load| f64::from(load.arrived)).sum();
    if loads.len() < 2 || arrived < 1.0 {
        return None;
    }
    let outlooks = outlooks(loads);
    let weights: f64 = loads.iter().map(Load::weight).sum();
    let all_parts: f64 = loads.iter().map(|load| load.weight() * f64::from(load.share)).sum();
    let now: Vec<f64> = loads.iter().map(|load| load.weight() * f64::from(load.share) / all_parts).collect();
    let as_they_are = outlooks.iter().zip(&now).map(|(one, part)| one.kept + arrived * part * one.of_new);
    if is_even(&outlooks, &as_they_are.collect::<Vec<_>>()) {
        return None;
    }
    let level = level(&outlooks, arrived);
    let part = |(outlook, now): (&Outlook, &f64)| {
        let fair = outlook.weight / weights;
        let wanted = (outlook.new_flows(level) / arrived).clamp(fair * LEAST, fair * MOST);
        (wanted * now).sqrt() / outlook.weight
    };
    let relative: Vec<f64> = outlooks.iter().zip(&now).map(part).collect();
    let most = relative.iter().copied().fold(0.0, f64::max);
    let shares: Vec<u8> = relative.into_iter().map(|part| rounded(part / most * f64::from(WHOLE))).collect();
    shares.iter().zip(loads).any(|(share, load)| *share != load.share).then_some(shares)
}

/// Whether so many live flows are as many everywhere, by weight, as far as counts can tell.
fn is_even(outlooks: &[Outlook], live: &[f64]) -> bool {
    let weights: f64 = outlooks.iter().map(|one| one.weight).sum();
    let level = live.iter().sum::<f64>() / weights;
    outlooks.iter().zip(live).all(|(one, live)| {
        let fair = level * one.weight;
        (live - fair).abs() <= (fair * EVEN).max(fair.sqrt())
    })
}

fn outlooks(loads: &[Load]) -> Vec<Outlook> {
    let ended: f64 = loads.iter().map(Load::ended).sum();
    let exposed: f64 = loads.iter().map(|load| load.mean).sum();
    let of_pool = ended / exposed.max(1.0);
    let outlook = |load: &Load| {
        let rate = ((load.ended() + PRIOR * of_pool) / (load.mean + PRIOR)).max(0.0);
        let left = (-rate).exp();
        let of_new = if rate > 1e-6 { (1.0 - left) / rate } else { 1.0 };
        Outlook { weight: load.weight(), kept: f64::from(load.live) * left, of_new }
    };
    loads.iter().map(outlook).collect()
}

impl Outlook {
    /// Flows that must begin for so many to be left, a unit of weight.
    fn new_flows(&self, level: f64) -> f64 {
        ((self.weight * level - self.kept) / self.of_new).max(0.0)
    }
}

/// How many flows a unit of weight will have when all that begin are shared out so that it is the same everywhere.
fn level(outlooks: &[Outlook], arrived: f64) -> f64 {
    let highest = outlooks.iter().map(|one| (one.kept + arrived * one.of_new) / one.weight);
    let (mut low, mut high) = (0.0, highest.fold(0.0, f64::max));
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        let needed: f64 = outlooks.iter().map(|one| one.new_flows(middle)).sum();
        if needed < arrived {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// A share; everybody has some.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 255")]
fn rounded(share: f64) -> u8 {
    share.round().clamp(1.0, f64::from(WHOLE)) as u8
}

#[cfg(test)]
mod tests;
