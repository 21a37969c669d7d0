//! How large an instance's share is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instance's share of its service's requests, compared with the other instances: 1 to 1000, mostly 1. One that
/// shall get none is [stopping](crate::State::Stopping) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Weight(u16);

impl Weight {
    /// The number, from 1 to 1000.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(1)
    }
}

impl TryFrom<u64> for Weight {
    type Error = WeightError;

    fn try_from(number: u64) -> Result<Weight, WeightError> {
        match u16::try_from(number) {
            Ok(weight @ 1..=WEIGHT_MAX) => Ok(Weight(weight)),
            _ => Err(WeightError { number }),
        }
    }
}

impl From<Weight> for u64 {
    fn from(weight: Weight) -> u64 {
        weight.0.into()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number is not from 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the weight {number} is not from 1 to 1000")]
pub struct WeightError {
    /// The number as found.
    pub number: u64,
}

const WEIGHT_MAX: u16 = 1000;
