//! The cost by how much there is, as a picture: four panels, a line for each kernel.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::measured::Measured;

const SIZE: (u32, u32) = (960, 640);

/// Figure, title, and what its number is of.
const PANELS: [(&str, &str, &str); 4] = [
    ("lease-by-leases", "lease set + unlock", "leases of others"),
    (
        "pins-by-processes",
        "file pin + unpin, a page of 256",
        "other processes with a lease and a pin",
    ),
    (
        "pins-by-pages",
        "file pin + unpin, a page",
        "pages of a call",
    ),
    (
        "unlock-by-pins",
        "end of a lease that leaves a zombie",
        "pins",
    ),
];

const COLOURS: [RGBColor; 3] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 98, 11),
    RGBColor(44, 140, 44),
];

/// Draws all panels into one file.
pub fn draw(all: &[Measured], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", path.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    for (panel, (figure, title, of)) in area.split_evenly((2, 2)).iter().zip(PANELS) {
        let lines: Vec<_> = all
            .iter()
            .map(|measured| (measured.kernel.as_str(), measured.by_number(figure)))
            .collect();
        let points = || lines.iter().flat_map(|(_, line)| line);
        let most = points().map(|(_, value)| *value).fold(1.0, f64::max);
        let last = points().map(|(number, _)| *number).max().unwrap_or(10);
        let first = points().map(|(number, _)| *number).min().unwrap_or(1);
        let mut chart = ChartBuilder::on(panel)
            .caption(format!("{title}, instructions"), ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d((first..last).log_scale(), 0.0..most * 1.15)
            .map_err(|error| failed(&error))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&|number| short(f64::from(*number)))
            .y_label_formatter(&|number| short(*number))
            .x_desc(of)
            .draw()
            .map_err(|error| failed(&error))?;
        for ((kernel, line), colour) in lines.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(
                    line.iter().copied(),
                    colour.stroke_width(2),
                ))
                .map_err(|error| failed(&error))?
                .label(*kernel)
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .draw()
            .map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

/// `800`, `14 k`, `1.5 M`
fn short(number: f64) -> String {
    if number < 1e4 {
        format!("{number}")
    } else if number < 1e6 {
        format!("{:.0} k", number / 1e3)
    } else {
        format!("{:.1} M", number / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [1.0, 800.0, 14_000.0, 262_144.0, 1_048_576.0].map(short);
        assert_eq!(shown, ["1", "800", "14 k", "262 k", "1.0 M"]);
    }

    #[test]
    fn every_kernel_is_in_every_panel() {
        let mut measured = Measured {
            kernel: "6.12".to_owned(),
            ..Measured::default()
        };
        for (figure, _, _) in PANELS {
            let line = [("10".to_owned(), 700.0), ("10000".to_owned(), 720.0)];
            measured.figures.insert(figure.to_owned(), line.into());
        }
        let other = Measured {
            kernel: "6.1".to_owned(),
            ..measured.clone()
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cost.svg");
        draw(&[measured, other], &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for (_, title, _) in PANELS {
            assert!(text.contains(title), "no {title}");
        }
        // Each line, and each in the legend.
        let lines = text.matches(r#"stroke-width="2""#).count();
        assert_eq!(lines, 2 * 2 * PANELS.len());
    }
}
