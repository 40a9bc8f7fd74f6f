//! The two text formats in which Prometheus and people read metrics, and which of them a request's `Accept` asks for.
//!
//! `prometheus_client` writes OpenMetrics. The older Prometheus format, which kube-apiserver, etcd and CoreDNS answer
//! with, differs in few lines: a counter's family is named as its sample is, there are no units, no exemplars and no
//! end mark. Knows no metric.

use std::fmt::Write;

/// Metrics as text, ready to be a response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposition {
    pub content_type: &'static str,
    pub text: String,
}

/// How metrics are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format 0.0.4, which everything reads.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for: OpenMetrics only where it is named and not liked less than plain text.
    pub fn accepted(header: Option<&str>) -> Self {
        let Some(header) = header else { return Format::Prometheus };
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in header.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let liked = match parts.next().map(str::to_ascii_lowercase).as_deref() {
                Some("application/openmetrics-text") => &mut open,
                Some("text/plain" | "text/*") => &mut plain,
                _ => continue,
            };
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok()).unwrap_or(1.0);
            *liked = liked.max(quality);
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Writes what is in OpenMetrics in this format.
    pub(crate) fn write(self, open_metrics: String) -> Exposition {
        let text = match self {
            Format::OpenMetrics => open_metrics,
            Format::Prometheus => prometheus(&open_metrics),
        };
        Exposition { content_type: self.content_type(), text }
    }
}

/// The Prometheus text format of an OpenMetrics text as `prometheus_client` writes it: HELP, TYPE and UNIT of a family,
/// then its samples.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, which says what the family is called.
    let mut help = None;
    for line in open_metrics.lines() {
        match line.strip_prefix("# ").and_then(|line| line.split_once(' ')) {
            None if line.starts_with('#') => {}
            None => {
                let line = without_exemplar(line);
                match whole_bound(line) {
                    Some((before, after)) => text.extend([before, after]),
                    None => text.push_str(line),
                }
                text.push('\n');
            }
            Some(("HELP", rest)) => help = rest.split_once(' '),
            Some(("TYPE", rest)) => describe(&mut text, rest, help.take()),
            Some(_) => {}
        }
    }
    text
}

fn describe(text: &mut String, family: &str, help: Option<(&str, &str)>) {
    let Some((name, kind)) = family.split_once(' ') else { return };
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "gauge" | "histogram" | "summary" => ("", kind),
        _ => ("", "untyped"),
    };
    if let Some((_, words)) = help {
        let _ = writeln!(text, "# HELP {name}{suffix} {words}");
    }
    let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
}

/// A bucket's line around the ".0" of its bound: clients of Prometheus write whole numbers without it.
fn whole_bound(line: &str) -> Option<(&str, &str)> {
    let labels = line.find("_bucket{")?;
    let bound = labels + line[labels..].find("le=\"")? + "le=\"".len();
    let end = bound + line[bound..].find('"')?;
    let before = line[..end].strip_suffix(".0").filter(|before| before.len() > bound)?;
    Some((before, &line[end..]))
}

/// A sample's line up to an exemplar, which is told from a `#` in a label's value by standing outside of quotes.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_accept_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (header, expected) in [
            (None, Format::Prometheus),
            (Some(""), Format::Prometheus),
            (Some("*/*"), Format::Prometheus),
            (Some("application/json, */*"), Format::Prometheus),
            (Some("text/plain"), Format::Prometheus),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=1.0.0; q=0"), Format::Prometheus),
            (Some("application/openmetrics-text;q=0.3, text/plain;q=0.7"), Format::Prometheus),
            (Some("Application/OpenMetrics-Text, text/plain"), Format::OpenMetrics),
            (Some(prometheus), Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(header), expected, "{header:?}");
        }
    }

    #[test]
    fn bounds_that_are_whole_numbers() {
        let check = |line: &str, expected: &str| assert_eq!(prometheus(line), format!("{expected}\n"));
        check("a_bucket{b=\"x\",le=\"1.0\"} 2", "a_bucket{b=\"x\",le=\"1\"} 2");
        check("a_bucket{le=\"10.0\",b=\"x.0\"} 2", "a_bucket{le=\"10\",b=\"x.0\"} 2");
        check("a_bucket{le=\"2.5\"} 2", "a_bucket{le=\"2.5\"} 2");
        check("a_total{le=\"1.0\"} 2", "a_total{le=\"1.0\"} 2");
    }

    #[test]
    fn each_kind_of_family() {
        let open = "# HELP requests Requests.\n# TYPE requests counter\nrequests_total{path=\"/a # b\"} 3\n\
                    # HELP took_seconds Time.\n# TYPE took_seconds histogram\n# UNIT took_seconds seconds\n\
                    took_seconds_sum 0.5\ntook_seconds_count 1\n\
                    took_seconds_bucket{le=\"+Inf\"} 1 # {trace=\"#1\"} 0.5\n\
                    # HELP build About.\n# TYPE build info\nbuild_info{version=\"1\"} 1\n\
                    # HELP odd Odd.\n# TYPE odd unknown\nodd 1\n# EOF\n";
        let expected = "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
                        requests_total{path=\"/a # b\"} 3\n\
                        # HELP took_seconds Time.\n# TYPE took_seconds histogram\n\
                        took_seconds_sum 0.5\ntook_seconds_count 1\ntook_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP build_info About.\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
                        # HELP odd Odd.\n# TYPE odd untyped\nodd 1\n";
        assert_eq!(prometheus(open), expected);
    }

    proptest::proptest! {
        #[test]
        fn any_header_and_any_text_are_read(header in ".{0,60}", text in "[#a-z \"\\\\{}\n]{0,200}") {
            let _ = Format::accepted(Some(&header));
            let _ = prometheus(&text);
        }
    }
}
