//! Figures out of `/metrics` (OpenMetrics text), summed over labels.

use std::collections::BTreeMap;

/// What one node counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(line).collect())
    }

    /// A counter or gauge without `skywave_`, over all series whose labels have this text in them.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let full = format!("skywave_{name}");
        let of = |series: &str| series.split('{').next() == Some(&full) && series.contains(label);
        self.0.iter().filter(|(series, _)| of(series)).map(|(_, value)| value).sum()
    }

    /// Upper ends of a histogram's buckets with how many were observed up to there.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let head = format!("skywave_{name}_bucket{{le=\"");
        let of = |(series, count): (&String, &f64)| {
            let end = series.strip_prefix(&head)?.strip_suffix("\"}")?;
            Some((if end == "+Inf" { f64::INFINITY } else { end.parse().ok()? }, *count))
        };
        let mut buckets: Vec<_> = self.0.iter().filter_map(of).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

/// Observations of a histogram between two readings at each of many nodes, all together.
pub fn observed(name: &str, before: &[Figures], after: &[Figures]) -> Vec<(f64, f64)> {
    let mut sum: Vec<(f64, f64)> = Vec::new();
    for (figures, sign) in after.iter().map(|f| (f, 1.0)).chain(before.iter().map(|f| (f, -1.0))) {
        for (place, (end, count)) in figures.buckets(name).into_iter().enumerate() {
            if sum.len() <= place {
                sum.push((end, 0.0));
            }
            sum[place].1 += sign * count;
        }
    }
    sum
}

/// Where this share of the observations lies, interpolated in its bucket.
pub fn quantile(buckets: &[(f64, f64)], share: f64) -> f64 {
    let wanted = share * buckets.last().map_or(0.0, |(_, count)| *count);
    let mut below = (0.0, 0.0);
    for (end, count) in buckets.iter().copied() {
        if count >= wanted && count > below.1 {
            let within = (wanted - below.1) / (count - below.1);
            return if end.is_finite() { below.0 + within * (end - below.0) } else { end };
        }
        below = (end, count);
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# TYPE skywave_x counter\nskywave_x_total{a=\"1\"} 3\nskywave_x_total{a=\"2\"} 4\n\
        skywave_h_bucket{le=\"0.5\"} 2\nskywave_h_bucket{le=\"1.0\"} 4\nskywave_h_bucket{le=\"+Inf\"} 4\n# EOF\n";

    #[test]
    fn series_are_summed_and_quantiles_interpolated() {
        let figures = Figures::parse(TEXT);
        assert_eq!((figures.sum("x_total", ""), figures.sum("x_total", "a=\"2\"")), (7.0, 4.0));
        let observed = observed("h", &[Figures::default()], &[figures.clone(), figures]);
        assert_eq!(observed, [(0.5, 4.0), (1.0, 8.0), (f64::INFINITY, 8.0)]);
        assert_eq!((quantile(&observed, 0.25), quantile(&observed, 0.75)), (0.25, 0.75));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
