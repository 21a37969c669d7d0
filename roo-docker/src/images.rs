//! What images expose, asked once for each.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};

use crate::{client::Engine, description::Description, labels::Exposed};

/// Answers that can't change: those about images named by their digest.
#[derive(Debug, Default)]
pub(crate) struct Images {
    known: BTreeMap<String, Exposed>,
}

impl Images {
    /// Tells the descriptions that want it what their images expose. May be dropped at any time.
    pub(crate) async fn fill(&mut self, engine: &Engine, descriptions: &mut [Description]) {
        let wanted: BTreeSet<String> =
            descriptions.iter().filter(|one| one.wants_image()).map(|one| one.image.clone()).collect();
        self.known.retain(|image, _| wanted.contains(image));
        let unknown = wanted.into_iter().filter(|image| !self.known.contains_key(image));
        let ask = |image: String| async { (engine.exposed(&image).await, image) };
        let fresh: Vec<(Exposed, String)> = stream::iter(unknown).map(ask).buffer_unordered(AT_ONCE).collect().await;
        let fresh: BTreeMap<String, Exposed> = fresh.into_iter().map(|(exposed, image)| (image, exposed)).collect();
        for description in descriptions.iter_mut().filter(|one| one.wants_image()) {
            let exposed = self.known.get(&description.image).or_else(|| fresh.get(&description.image));
            description.ports.exposed = exposed.cloned().unwrap_or_default();
        }
        let lasting =
            |(image, exposed): &(String, Exposed)| image.contains("@sha256:") && matches!(exposed, Exposed::Ports(_));
        self.known.extend(fresh.into_iter().filter(lasting));
    }
}

/// Images asked about at the same time.
const AT_ONCE: usize = 8;
