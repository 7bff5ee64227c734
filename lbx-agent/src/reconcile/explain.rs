//! Explains a packet over the maps as they are.

use lbx_common::api::{ExplainReport, ExplainRequest};

use super::{Reconciler, now_ns};
use crate::{
    control::RefusedError,
    explain::{Facts, LiveTables, describe, frame, run},
};

impl Reconciler {
    pub(super) fn explain(&self, request: &ExplainRequest) -> Result<ExplainReport, RefusedError> {
        let frame = frame(request).map_err(|error| RefusedError::Failed(error.to_string()))?;
        let tables = LiveTables::new(&self.kernel.memory, self.kernel.remembered(), now_ns());
        let outcome = run(&tables, &frame);
        let regions = self.regions.loaded.as_ref().map(|loaded| &*loaded.list);
        let facts = Facts { model: &self.model, image: &self.image, known: self.known(), regions };
        Ok(describe(facts, request, &tables, &outcome))
    }
}
