//! report.html: one page, nothing fetched; charts with the numbers behind them, light and dark, on paper and on a phone.
//!
//! Everything is there to be read without scripts. The one script, `html/page.js`, hides mechanisms, makes axes linear,
//! shows values and saves data; the page's policy lets that one run and nothing else.

mod tables;

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

use super::cautions;
use super::charts;
use super::format::{grouped, html as escape, plain};
use super::latency;
use super::model;
use super::plot::{Drawn, Look, Plot};
use super::population;
use super::prediction;
use super::summary::{Subject, Summary};
use super::sums::SUMS;
use super::table;
use super::text;
use super::trials::{self, Trials};
use crate::measure::record::Load;
pub(super) use tables::draw;

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// The whole page.
pub fn render(summary: &Summary<'_>) -> String {
    render_with(summary, &charts::groups(summary))
}

pub(super) fn render_with(summary: &Summary<'_>, groups: &[Drawn]) -> String {
    let record = summary.record;
    let name = record.workload.as_ref().map_or("A comparison", |about| &about.title);
    let mut out = String::new();
    looks(&mut out, &summary.subjects);
    first_screen(&mut out, summary, name, groups);

    let measured = |(idle, load): &(u32, Load)| summary.is_measured(*idle, *load);
    if summary.tables().any(|load| measured(&load)) {
        groups.iter().enumerate().for_each(|(at, group)| charts_of(&mut out, group, at));
        overviews(&mut out, summary);
        out.push_str("<section id=\"every-load\">\n<h2>Every load</h2>\n");
        text::legend(summary).chain([trials::LEGEND]).for_each(|line| paragraph(&mut out, "legend", line));
        let trials = Trials::of(record);
        for (at, (idle, load)) in summary.tables().filter(measured).enumerate() {
            let open = if at == 0 { " open" } else { "" };
            let _ = writeln!(out, "<details{open}><summary>{}</summary>", table::load(summary, idle, load));
            // Inside: whoever is led here finds it unfolded.
            let _ = writeln!(out, "<div id=\"{}\">", place(summary, idle, load));
            draw(&mut out, &summary.subjects, &table::ranking(summary, idle, load));
            trials.draw(&mut out, summary, idle, load);
            out.push_str("</div>\n</details>\n");
        }
        out.push_str("</section>\n");
    }
    prediction::section(&mut out, summary);
    if let Some(table) = model::table(summary) {
        let _ = writeln!(out, "<section id=\"model\">\n<h2>{}</h2>", escape(&table.title));
        draw(&mut out, &summary.subjects, &table);
        out.push_str("</section>\n");
    }
    if let Some(table) = population::table(summary) {
        let _ = writeln!(out, "<section>\n<h2>{}</h2>", escape(&table.title));
        draw(&mut out, &summary.subjects, &table);
        out.push_str("</section>\n");
    }
    let workload = text::workload(summary).into_iter().map(|(head, text)| (head.to_owned(), text));
    pairs(&mut out, "What was done", &workload.collect::<Vec<_>>());
    let gates = record.gates.iter().map(text::gate).map(|(verdict, finding)| (verdict.to_owned(), finding));
    pairs(&mut out, "Gates", &gates.collect::<Vec<_>>());
    pairs(&mut out, "Contestants", &text::contestants(summary));
    pairs(&mut out, "Not measured", &text::unmeasured(summary));
    let facts = record.host.facts().into_iter().map(|(name, value)| (name.to_owned(), value));
    pairs(&mut out, "Host", &facts.collect::<Vec<_>>());
    how_to_repeat(&mut out, summary);
    scripted(&format!("{name} · pollmark"), &out)
}

/// A page in which the script runs: it has to have a `nav`, and the [names](rows) of its rows.
pub(super) fn scripted(title: &str, body: &str) -> String {
    let script = BASE64.encode(Sha256::digest(SCRIPT));
    document(title, &format!("; script-src 'sha256-{script}'"), body, &format!("<script>{SCRIPT}</script>\n"))
}

/// Another page, in the same style, of a site: nothing runs in it.
pub(super) fn page(title: &str, body: &str) -> String {
    document(title, "", body, "")
}

/// The policy holds the page to what it says: its style, perhaps its script, and no resource from elsewhere.
fn document(title: &str, policy: &str, body: &str, script: &str) -> String {
    let title = escape(&plain(title));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'{policy}\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n{script}</body>\n</html>\n"
    )
}

/// Where on the page a load is.
fn place(summary: &Summary<'_>, idle: u32, load: Load) -> String {
    let at = summary.tables().position(|table| table == (idle, load)).unwrap_or_default();
    format!("load-{at}")
}

/// A sentence or a heading, and where on the page the figures in it come from: the place, and what is there.
pub(super) fn sourced(out: &mut String, element: &str, text: &str, (place, what): (&str, &str)) {
    let text = escape(&plain(text));
    let end = element.split(' ').next().unwrap_or_default();
    let _ = writeln!(out, "<{element}>{text} <a class=\"source\" href=\"#{place}\">{what}</a></{end}>");
}

/// The claim, the answer, the crossover, and how far they go.
fn first_screen(out: &mut String, summary: &Summary<'_>, name: &str, groups: &[Drawn]) {
    let record = summary.record;
    let host = [&record.host.kernel, &record.host.cpu].into_iter().flatten().map(|fact| plain(fact));
    let made = [format!("pollmark {}", plain(&record.pollmark_version)), plain(&record.started)];
    paragraph(out, "kicker", &made.into_iter().chain(host).collect::<Vec<_>>().join(" · "));
    let _ = writeln!(out, "<h1>{}</h1>", escape(&plain(name)));
    if let Some(about) = &record.workload {
        paragraph(out, "", &about.shows);
    }
    out.push_str("<section class=\"answer\" aria-labelledby=\"answer\">\n<h2 id=\"answer\">The answer</h2>\n");
    if let Some((line, (idle, load))) = text::finding(summary).zip(text::found_at(summary)) {
        sourced(out, "p class=\"lead\"", &line, (&place(summary, idle, load), "its figures and trials"));
    }
    match summary.tables().any(|(idle, load)| summary.is_measured(idle, load)) {
        true => sourced(out, "p", &text::headline(summary), ("every-load", "every load")),
        false => paragraph(out, "", &text::headline(summary)),
    }
    if let Some(table) = table::leaders(summary) {
        let _ = writeln!(out, "<h3>{}</h3>", escape(&table.title));
        draw(out, &summary.subjects, &table);
    }
    prediction::why(out, summary);
    let crossovers = model::crossovers(summary);
    if !crossovers.is_empty() {
        sourced(out, "h3", "Where it turns", ("model", "the model"));
        out.push_str("<ul>\n");
        crossovers.iter().for_each(|line| writeln!(out, "<li>{}", escape(&plain(line))).expect("a string takes it"));
        out.push_str("</ul>\n");
    }
    out.push_str(
        "</section>\n<section class=\"scope\" aria-labelledby=\"scope\">\n<h2 id=\"scope\">How far it goes</h2>\n",
    );
    paragraph(out, "", &text::method(summary));
    paragraph(out, "", &text::noise(summary));
    if let Some(about) = &record.workload {
        paragraph(out, "", &format!("What it does not show: {}", about.hides));
    }
    cautions::of(summary).iter().for_each(|caution| paragraph(out, "warning", &format!("Warning: {caution}")));
    out.push_str("</section>\n<nav aria-label=\"On this page\"><ul>\n");
    for (at, group) in groups.iter().enumerate() {
        let _ = writeln!(out, "<li><a href=\"#plots-{at}\">{}</a>", escape(&plain(&group.title)));
    }
    if !groups.is_empty() {
        out.push_str("<li><a href=\"#every-load\">Every load</a>\n");
    }
    if prediction::is_told(summary) {
        out.push_str("<li><a href=\"#reasons\">Reasons</a>\n");
    }
    out.push_str("<li><a href=\"#repeat\">How to repeat</a>\n</ul></nav>\n");
    rows(out, &summary.subjects);
}

/// The names of the rows, for the script.
pub(super) fn rows(out: &mut String, subjects: &[Subject]) {
    let names = subjects.iter().map(|subject| plain(&subject.name)).collect::<Vec<_>>();
    // As text, since in a script element nothing is escaped.
    let _ = writeln!(out, "<div id=\"rows\" hidden>{}</div>", escape(&serde_json::Value::from(names).to_string()));
}

/// How each row is marked, once: tables of thousands of rows refer to it.
pub(super) fn looks(out: &mut String, subjects: &[Subject]) {
    let of = |(row, subject): (usize, &Subject)| [false, true].map(|second| Look::of(&subject.mechanism, second, row));
    let looks = subjects.iter().enumerate().flat_map(of).map(|look| (look.id(), look)).collect::<BTreeMap<_, _>>();
    out.push_str("<svg width=\"0\" height=\"0\" aria-hidden=\"true\" class=\"looks\">\n");
    looks.values().for_each(|look| writeln!(out, "{}", look.symbol()).expect("a string takes it"));
    out.push_str("</svg>\n");
}

fn overviews(out: &mut String, summary: &Summary<'_>) {
    out.push_str("<section>\n<h2>Overview</h2>\n<div class=\"tables\">\n");
    for table in table::overviews(summary).into_iter().chain(latency::tables(summary)) {
        let _ = writeln!(out, "<div><h3>{}</h3>", escape(&table.title));
        draw(out, &summary.subjects, &table);
        out.push_str("</div>\n");
    }
    out.push_str("</div>\n</section>\n");
}

fn charts_of(out: &mut String, group: &Drawn, at: usize) {
    let _ = writeln!(out, "<section id=\"plots-{at}\">\n<h2>{}</h2>", escape(&plain(&group.title)));
    paragraph(out, "note", &group.note);
    out.push_str("<div class=\"charts\">\n");
    for (plot, picture) in group.plots.iter().take(MOST_PICTURES) {
        figure(out, plot, picture);
    }
    out.push_str("</div>\n");
    if let Some(more @ 1..) = group.plots.len().checked_sub(MOST_PICTURES) {
        let told = "Their numbers are below, under each load; drawn they are in the directory plots:";
        let _ = write!(out, "<details><summary>{} more plots</summary><p>{told}</p><ul>", grouped(more as u64));
        for (plot, _) in &group.plots[MOST_PICTURES..] {
            let _ = writeln!(out, "<li>{}", escape(&plain(plot.title())));
        }
        out.push_str("</ul></details>\n");
    }
    out.push_str("</section>\n");
}

/// A plot, with its numbers below it.
pub(super) fn figure(out: &mut String, plot: &Plot, picture: &str) {
    let _ = writeln!(out, "<figure>\n{picture}<details><summary>The numbers</summary>");
    tables::numbers(out, &plot.table(), plot.title());
    out.push_str("</details>\n</figure>\n");
}

/// So many plots of a group are in the page: more are looked at by whoever wants to know of one.
const MOST_PICTURES: usize = 16;

pub(super) fn pairs(out: &mut String, title: &str, pairs: &[(String, String)]) {
    if pairs.is_empty() {
        return;
    }
    let _ = writeln!(out, "<section>\n<h2>{title}</h2>\n<table class=\"pairs\">");
    for (name, value) in pairs {
        let _ = writeln!(out, "<tr><th scope=\"row\">{}<td>{}", escape(&plain(name)), escape(&plain(value)));
    }
    out.push_str("</table>\n</section>\n");
}

fn how_to_repeat(out: &mut String, summary: &Summary<'_>) {
    let record = summary.record;
    out.push_str("<section id=\"repeat\">\n<h2>How to repeat</h2>\n");
    let commit = record.host.commit.as_deref().map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let from = format!(
        "With pollmark {}{commit}; the seed {} gives the same order of visits.",
        record.pollmark_version, record.seed
    );
    paragraph(out, "", &from);
    let _ = writeln!(out, "<pre><code>{}</code></pre>", escape(&plain(&text::repeat(summary))));
    let links = super::FILES.iter().filter(|name| **name != "report.html").chain([&SUMS]);
    let links = links.map(|name| format!("<a href=\"{name}\">{name}</a>")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        out,
        "<p>Beside this page, where it has not been taken away from them: {links}. Every sample is in results.json, every \
         latency in the directory latency, every plot in the directory plots.</p>\n</section>"
    );
}

pub(super) fn paragraph(out: &mut String, class: &str, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<p{class}>{}</p>", escape(&plain(text)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::record::Trial;
    use crate::report::sample;

    #[test]
    fn the_page_fetches_nothing_and_lets_nothing_foreign_through() {
        for (name, record) in sample::all() {
            let page = render(&Summary::of(&record));
            assert!(page.len() < 2 << 20, "{name}: {} bytes", page.len());
            let (page, script) = page.rsplit_once("<script>").expect("ours, at the end");
            assert_eq!(script, format!("{SCRIPT}</script>\n</body>\n</html>\n"), "{name}");
            let foreign = ["<script", "src=", "url(", "@import", "alert('x')", "\u{1b}"];
            for word in foreign {
                assert!(!page.contains(word), "{name}: {word}");
            }
            // Links lead into the page, or to the files beside it.
            for link in page.split("href=\"").skip(1).map(|rest| rest.split('"').next().expect("an end")) {
                let beside = crate::report::FILES.contains(&link) || link == SUMS;
                let within = |place: &str| page.contains(&format!("id=\"{place}\""));
                assert!(beside || link.strip_prefix('#').is_some_and(within), "{name}: {link}");
            }
            // The only address is SVG's name, which nobody fetches.
            assert_eq!(page.matches("http://").count(), page.matches("http://www.w3.org/2000/svg").count(), "{name}");
            assert!(page.contains("How to repeat") && page.contains("Noise floor"), "{name}");
        }
    }

    #[test]
    fn the_script_is_the_one_the_policy_lets_run_and_nothing_can_end_it_early() {
        let record = sample::ordinary();
        let page = render(&Summary::of(&record));
        let script = page.split("<script>").nth(1).and_then(|rest| rest.split("</script>").next()).expect("a script");
        let sum = BASE64.encode(Sha256::digest(script));
        assert!(page.contains(&format!("script-src 'sha256-{sum}'")), "what stands in the page is what is allowed");
        assert!(!SCRIPT.contains("</") && !SCRIPT.contains("<!--"));
    }

    #[test]
    fn every_plot_has_its_numbers_for_readers_and_for_programs() {
        let record = sample::ordinary();
        let page = render(&Summary::of(&record));
        let plots = page.matches("<figure>").count();
        assert_eq!(plots, 31);
        assert_eq!((page.matches("The numbers").count(), page.matches("<metadata>").count()), (plots, plots));
        assert!(page.contains("kqueue, everywhere") && page.contains("void: wrong byte"));
    }

    #[test]
    fn of_very_many_rows_the_page_has_each_figure_and_says_where_the_plots_and_lines_left_out_are() {
        let mut record = sample::ordinary();
        let like = record.trials.iter().filter(|trial| trial.subject == "epoll").cloned().collect::<Vec<_>>();
        for row in 0..30 {
            let subject = format!("row {row}");
            let order = |trial: &Trial| trial.order + 1_000 * (row + 1);
            let alike = |trial: &Trial| Trial { subject: subject.clone(), order: order(trial), ..trial.clone() };
            record.trials.extend(like.iter().map(alike).collect::<Vec<_>>());
        }
        let summary = Summary::of(&record);
        let page = render(&summary);
        let told = page.split("more plots</summary>").nth(1).expect("more than are drawn");
        assert!(told.split("</ul>").next().expect("an end").contains("row 24 against epoll"));
        assert!(page.contains("more lines are in the data of the picture"));
        let every = page.split("id=\"every-load\"").nth(1).and_then(|rest| rest.split("</section>").next());
        let rows = every.expect("tables").matches("<tr class=").count();
        assert_eq!(rows, summary.cells.len() + record.trials.len(), "each cell has its row, and each trial");
        let pictures = crate::report::plots::pictures(&summary).len();
        assert!(pictures > page.matches("<figure>").count(), "all are files");
    }

    #[test]
    fn the_first_screen_has_the_claim_the_answer_the_crossover_and_the_scope() {
        let record = sample::ordinary();
        let page = render(&Summary::of(&record));
        let first = page.split("<nav").next().expect("a beginning");
        for part in [
            "What an echo costs.",
            "The answer",
            "With 5,000 idle",
            "Where it turns",
            "By the model poll",
            "What a network",
        ] {
            assert!(first.contains(part), "{part}: {first}");
        }
    }

    #[test]
    fn elements_that_must_be_closed_are() {
        for (name, record) in sample::all() {
            let page = render(&Summary::of(&record));
            let (page, _) = page.rsplit_once("<script>").expect("a script");
            for element in [
                "section", "div", "table", "details", "summary", "figure", "svg", "g", "title", "text", "p", "ul",
                "metadata",
            ] {
                let opened =
                    page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
                assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{name}: {element}");
            }
        }
    }
}
