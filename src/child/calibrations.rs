//! The parent's end of the calibrator.

use std::time::Duration;

use super::Role;
use super::group::Group;
use super::parent::Failure;
use super::wire::CalibrationOrder;
use crate::calibration::Calibration;

/// How long a calibration may take at most: a hundred times as long as it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has a process of its own measure what calls cost.
///
/// # Errors
/// What was not as it should be: then there are no figures of it.
pub(crate) fn calibrate(order: &CalibrationOrder) -> Result<Vec<Calibration>, Failure> {
    let mut group: Group<CalibrationOrder, Result<Vec<Calibration>, String>> = Group::start(Role::Calibrator, 1)?;
    let answers = group.ask(|_| order.clone(), PATIENCE, None)?;
    answers.into_iter().next().expect("one process, one answer").map_err(Failure)
}
