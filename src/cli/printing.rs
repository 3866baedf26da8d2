//! In which form a command prints what it has found: `--format`, the same for every command that has something to print.

use std::marker::PhantomData;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// A form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Format {
    /// For people, on a terminal.
    #[default]
    Table,
    /// To publish.
    Markdown,
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

impl Format {
    const ALL: [Format; 4] = [Format::Table, Format::Markdown, Format::Json, Format::Csv];

    const fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Markdown => "markdown",
            Format::Json => "json",
            Format::Csv => "csv",
        }
    }
}

/// Which forms a command has.
pub(super) trait Forms {
    const FORMS: &'static [Format];
}

/// What has rows: all of them.
pub(super) struct Rows;

/// What is prose in part: no lines for a spreadsheet.
pub(super) struct Prose;

/// What is an account of one thing: for people or for programs.
pub(super) struct Figures;

impl Forms for Rows {
    const FORMS: &'static [Format] = &Format::ALL;
}

impl Forms for Prose {
    const FORMS: &'static [Format] = &[Format::Table, Format::Markdown, Format::Json];
}

impl Forms for Figures {
    const FORMS: &'static [Format] = &[Format::Table, Format::Json];
}

/// `--format FORM`, and `--FORM` for short: one of those that `F` names, once.
pub(super) struct Printing<F> {
    pub(super) format: Format,
    forms: PhantomData<F>,
}

/// What options are in that ask for another form than a person's: for what conflicts with it.
pub(super) const FORM: &str = "form";

impl<F: Forms> Args for Printing<F> {
    fn augment_args(command: Command) -> Command {
        let names = F::FORMS.iter().map(|form| form.name());
        let known = PossibleValuesParser::new(names).map(|name| {
            Format::ALL.into_iter().find(|form| form.name() == name).expect("one of the values that are possible")
        });
        let format = Arg::new("format")
            .long("format")
            .value_name("FORM")
            .value_parser(known)
            .help("How to print it [default: table]");
        let short = |form: &Format| {
            let name = form.name();
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(format!("The same as --format {name}"))
        };
        let options = std::iter::once(format).chain(F::FORMS.iter().filter(|form| **form != Format::Table).map(short));
        options.fold(command, |command, option| command.arg(option.group(FORM)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<F: Forms> FromArgMatches for Printing<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let asked = F::FORMS.iter().filter(|form| **form != Format::Table && matches.get_flag(form.name())).copied();
        let asked = matches.get_one("format").copied().into_iter().chain(asked).collect::<Vec<_>>();
        match asked.as_slice() {
            [] => Ok(Printing { format: Format::default(), forms: PhantomData }),
            [format] => Ok(Printing { format: *format, forms: PhantomData }),
            _ => Err(clap::Error::raw(ErrorKind::ArgumentConflict, "one form at a time")),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
