//! What is measured, in the Prometheus text format. Counters and gauges are the exporter's; histograms are our own, since
//! the exporter keeps every sample until somebody looks: of a busy proxy, megabytes a minute, sorted by another thread.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SetRecorderError, SharedString, Unit,
};
use metrics_exporter_prometheus::formatting::{
    sanitize_metric_name, write_help_line, write_metric_line, write_type_line,
};
use metrics_exporter_prometheus::{LabelSet, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds of the histograms, in seconds.
const BOUNDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Everything that was measured since the start.
pub(crate) struct Metrics {
    exporter: PrometheusHandle,
    histograms: Arc<Histograms>,
}

impl Metrics {
    /// Measures from now on, for the whole process.
    ///
    /// # Errors
    ///
    /// If somebody else does so already.
    pub(crate) fn install() -> Result<Metrics, SetRecorderError<impl Sized>> {
        let (metrics, recorder) = Metrics::new();
        metrics::set_global_recorder(recorder)?;
        Ok(metrics)
    }

    fn new() -> (Metrics, Recording) {
        let exporter = PrometheusBuilder::new().build_recorder();
        let histograms = Arc::<Histograms>::default();
        let metrics = Metrics { exporter: exporter.handle(), histograms: histograms.clone() };
        (metrics, Recording { exporter, histograms })
    }

    /// The text, as of now.
    pub(crate) fn render(&self) -> String {
        self.exporter.render() + &self.histograms.render()
    }
}

/// Hands out the places where things are counted.
struct Recording {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl Recorder for Recording {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.histograms.families().entry(sanitize_metric_name(key.as_str())).or_default().description =
            Some(description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut families = self.histograms.families();
        let family = families.entry(sanitize_metric_name(key.name())).or_default();
        Histogram::from_arc(family.series.entry(key.clone()).or_default().clone())
    }
}

/// All histograms, by name.
#[derive(Default)]
struct Histograms(Mutex<BTreeMap<String, Family>>);

/// The histograms of one name, by their labels.
#[derive(Default)]
struct Family {
    description: Option<SharedString>,
    series: HashMap<Key, Arc<Buckets>>,
}

impl Histograms {
    fn families(&self) -> MutexGuard<'_, BTreeMap<String, Family>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.families().iter().filter(|(_, family)| !family.series.is_empty()) {
            if let Some(description) = &family.description {
                write_help_line(&mut text, name, None, None, description);
            }
            write_type_line(&mut text, name, None, None, "histogram");
            for (key, buckets) in &family.series {
                buckets.write(&mut text, name, &LabelSet::from_key_and_global(key, &Default::default()));
            }
            // As behind each of the exporter's; writing to a text does not fail.
            let _ = writeln!(text);
        }
        text
    }
}

/// One histogram. Threads that record at the same time do so in different places.
struct Buckets(Box<[Place]>);

/// Samples by the first bound that they do not exceed, or none, and their sum as the bits of an `f64`.
#[derive(Default)]
#[repr(align(128))]
struct Place {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// Places of one histogram at most.
const PLACES_MAX: usize = 8;

impl Default for Buckets {
    fn default() -> Buckets {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Buckets((0..threads.min(PLACES_MAX)).map(|_| Place::default()).collect())
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        let place = &self.0[thread() % self.0.len()];
        let bucket = BOUNDS.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS.len());
        place.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // It always adds.
        let _ = place.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

impl Buckets {
    fn write(&self, text: &mut String, name: &str, labels: &LabelSet) {
        let mut count = 0;
        let bounds = BOUNDS.map(Some).into_iter().chain([None]);
        for (bucket, bound) in bounds.enumerate() {
            count += self.0.iter().map(|place| place.counts[bucket].load(Ordering::Relaxed)).sum::<u64>();
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            write_metric_line(text, name, Some("bucket"), labels, Some(("le", bound)), count, None);
        }
        let sum: f64 = self.0.iter().map(|place| f64::from_bits(place.sum.load(Ordering::Relaxed))).sum();
        write_metric_line::<&str, f64>(text, name, Some("sum"), labels, None, sum, None);
        write_metric_line::<&str, u64>(text, name, Some("count"), labels, None, count, None);
    }
}

/// The number of this thread among those that record.
fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_those_of_the_text_format() {
        let (metrics, recorder) = Metrics::new();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_histogram!("took_seconds", Unit::Seconds, "How long it took");
            metrics::counter!("asked_total").increment(2);
            let took = metrics::histogram!("took_seconds", "route" => "a\"b");
            for seconds in [0.0005, 0.001, 0.002, 7.0, 31.0] {
                took.record(seconds);
            }
            std::thread::scope(|scope| scope.spawn(|| took.record(0.3)).join()).ok();
        });
        let text = metrics.render();
        assert!(
            text.starts_with("# TYPE asked_total counter\nasked_total 2\n\n# HELP took_seconds How long it took\n")
        );
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("took_seconds_")).collect();
        let counts = [2, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6];
        for (at, count) in counts.into_iter().enumerate() {
            let bound = BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            assert_eq!(lines[at], format!("bucket{{route=\"a\\\"b\",le=\"{bound}\"}} {count}"));
        }
        assert_eq!(lines[15..], [r#"sum{route="a\"b"} 38.3035"#, r#"count{route="a\"b"} 6"#]);
    }

    #[test]
    fn the_same_labels_are_the_same_histogram() {
        let (metrics, recorder) = Metrics::new();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("took_seconds", "route" => "a").record(1.0);
            metrics::histogram!("took_seconds", "route" => "a").record(2.0);
            metrics::histogram!("took_seconds", "route" => "b").record(1.0);
        });
        let text = metrics.render();
        assert!(
            text.contains("took_seconds_count{route=\"a\"} 2\n")
                && text.contains("took_seconds_count{route=\"b\"} 1\n")
        );
    }
}
