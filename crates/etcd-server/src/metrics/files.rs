//! How many files are open, under etcd's own names beside the usual ones.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

#[derive(Debug)]
pub(super) struct Files;

impl Collector for Files {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (open, limit) = telemetry::open_files();
        for (name, help, figure) in [
            ("os_fd_used", "The number of used file descriptors", open),
            ("os_fd_limit", "The file descriptor limit", limit),
        ] {
            let Some(figure) = figure else { continue };
            let gauge = ConstGauge::new(figure);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
