//! Are the figures as close to the truth as docs/accuracy.md says? The short form of `cargo xtask accuracy`.

use anyhow::{Result, ensure};
use tests::accuracy::{Form, Outcome, cells, exceeded, exceeded_together, measure};
use tests::kit::take_turn;
use tests::scenario::Probe;

#[test]
fn every_cell_of_the_short_form_is_within_its_bounds() -> Result<()> {
    let _turn = take_turn()?;
    let probe = Probe::start()?;
    let cells = cells(Form::Short);
    let (mut measured, mut broken) = (Vec::new(), Vec::new());
    let (mut judged, mut reordered) = (false, 0);
    let mut causes = std::collections::BTreeSet::new();
    for cell in &cells {
        let measurement = measure(&probe, cell, Form::Short, cells.len());
        let sentences = exceeded(&measurement);
        broken.extend(
            sentences.into_iter().map(|sentence| format!("{}, {}: {sentence}", cell.axis, cell.name)),
        );
        if let Outcome::Measured(figures) = &measurement.outcome {
            judged |= figures.loss.dropped >= 100;
            causes.extend(figures.confusion.keys().cloned());
            if measurement.reordering_only {
                reordered += figures.loss.needless;
            }
        }
        measured.push(measurement);
    }
    probe.stop()?;
    broken.extend(exceeded_together(&measured));
    ensure!(broken.is_empty(), "{} bounds are exceeded:\n{}", broken.len(), broken.join("\n"));
    // What was not provoked was not judged.
    ensure!(judged, "no cell lost a hundred segments: the estimate was not judged");
    ensure!(reordered > 0, "reordering made nothing be sent again");
    for cause in ["fast", "rto", "syn", "synack", "tlp"] {
        ensure!(causes.contains(cause), "nothing was sent again for the cause {cause}: only for {causes:?}");
    }
    Ok(())
}
