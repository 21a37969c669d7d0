//! Measurements of one quantity, one a round.

use std::fmt;

/// One figure a round, in order.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle figure, or the mean of the two in the middle; NaN without any.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[half],
            _ => f64::midpoint(sorted[half - 1], sorted[half]),
        }
    }

    /// The highest figure; NaN without any.
    pub fn highest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// This over `other`, round by round.
    pub fn over(&self, other: &Self) -> Ratio {
        Ratio(Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect()))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} (at most {:.1})", self.median(), self.highest())
    }
}

/// Paired ratios, shown as their median with lowest and highest.
#[derive(Debug, Clone)]
pub struct Ratio(Series);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = &self.0.0;
        let lowest = values.iter().copied().fold(f64::NAN, f64::min);
        let highest = values.iter().copied().fold(f64::NAN, f64::max);
        write!(f, "**{:.2}** ({lowest:.2}–{highest:.2})", self.0.median())
    }
}
