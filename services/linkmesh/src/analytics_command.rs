//! `linkmesh analytics`: the aggregator, for operators.

use clap::Subcommand;
use jiff::Timestamp;
use mesh::Mesh;
use proto::analytics::v1::DeadLetter;
use proto::analytics::v1::ListDeadLettersRequest;
use proto::analytics::v1::ListPartitionsRequest;
use proto::analytics::v1::Partition;
use proto::analytics::v1::RedriveDeadLettersRequest;
use proto::analytics::v1::ResumePartitionRequest;
use proto::analytics::v1::aggregator_service_client::AggregatorServiceClient;
use proto::analytics::v1::aggregator_service_server;
use serde_json::json;
use uuid::Uuid;

use crate::operator;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// The longest page that the service gives.
const PAGE_SIZE_MAX: i32 = 1_000;

/// Commands about the aggregator.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the partitions of link-events with owner, position, lag, known loss, and why one is halted
    Partitions {
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
    /// Let a halted partition go on from an offset: what lies before it is given up
    ///
    /// A partition halts when the log under it is not the one it was (retention overtook it, or the topic was made anew):
    /// going on by itself could count twice or lose in silence. `linkmesh analytics partitions` says why it halted.
    #[command(after_long_help = "\
Examples:
  linkmesh analytics resume 7 --next-offset 0          the topic was made anew
  linkmesh analytics resume 7 --next-offset 1024       retention took what lies before 1024")]
    Resume {
        /// The partition's number
        partition: i32,
        /// The offset to go on from, at most the partition's end
        #[arg(long, value_name = "OFFSET")]
        next_offset: i64,
        #[command(flatten)]
        place: Place,
    },
    /// List the clicks that were not folded, oldest first, and why
    ///
    /// In JSON also the clicks' bytes, as hexadecimal digits.
    DeadLetters {
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        place: Place,
    },
    /// Ask the partitions' owners to fold dead letters anew, each at most once
    Redrive {
        /// Only those with this reason, as `dead-letters` names it; default: all that can be decoded
        #[arg(long, value_name = "REASON", default_value = "", hide_default_value = true)]
        reason: String,
        /// Also those out of their window or expired
        #[arg(long)]
        ignore_window: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// Asks and prints.
pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    let place = match &command {
        Command::Partitions { place, .. }
        | Command::Resume { place, .. }
        | Command::DeadLetters { place, .. }
        | Command::Redrive { place, .. } => place,
    };
    let mesh = Operator::find(place)?.channel(aggregator_service_server::SERVICE_NAME).await?;
    let done = answer(command, AggregatorServiceClient::new(mesh.clone())).await;
    mesh.close().await;
    done
}

async fn answer(command: Command, mut client: AggregatorServiceClient<Mesh>) -> anyhow::Result<()> {
    match command {
        Command::Partitions { output, .. } => {
            let answer = client.list_partitions(operator::call(ListPartitionsRequest {})).await;
            let answer = answer.map_err(refused("listing partitions"))?.into_inner();
            partitions(&answer.partitions, output)
        }
        Command::Resume { partition, next_offset, .. } => {
            let request = ResumePartitionRequest { partition, next_offset };
            let answer = client.resume_partition(operator::call(request)).await;
            let answer = answer.map_err(refused("resuming the partition"))?.into_inner();
            partitions(answer.partition.as_slice(), Output::default())
        }
        Command::DeadLetters { limit, output, .. } => {
            let letters = letters(&mut client, limit).await?;
            if output.is_json() {
                let letters: Vec<_> = letters.iter().map(letter_json).collect();
                return print::json(&json!({ "deadLetters": letters }));
            }
            let heading =
                ["PARTITION", "INCARNATION", "NUMBER", "REASON", "WRITTEN", "DONE", "DETAIL"];
            let rows: Vec<_> = letters.iter().map(letter_row).collect();
            print::table(&heading, &rows)
        }
        Command::Redrive { reason, ignore_window, .. } => {
            let request = RedriveDeadLettersRequest { reason, ignore_window };
            let answer = client.redrive_dead_letters(operator::call(request)).await;
            let answer = answer.map_err(refused("redriving dead letters"))?.into_inner();
            print::line(&format!("{} handed to their partitions' owners", answer.requested))
        }
    }
}

async fn letters(
    client: &mut AggregatorServiceClient<Mesh>,
    limit: u32,
) -> anyhow::Result<Vec<DeadLetter>> {
    let limit = usize::try_from(limit)?;
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut page_token = String::new();
    while letters.len() < limit {
        let left = i32::try_from(limit - letters.len()).unwrap_or(PAGE_SIZE_MAX);
        let request = ListDeadLettersRequest { page_size: left.min(PAGE_SIZE_MAX), page_token };
        let answer = client.list_dead_letters(operator::call(request)).await;
        let answer = answer.map_err(refused("listing dead letters"))?.into_inner();
        letters.extend(answer.dead_letters);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(letters)
}

fn partitions(partitions: &[Partition], output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        let partitions: Vec<_> = partitions.iter().map(partition_json).collect();
        return print::json(&json!({ "partitions": partitions }));
    }
    let heading = ["PARTITION", "OWNER", "NEXT", "END", "LAG", "LOST", "HALTED"];
    let row = |partition: &Partition| {
        vec![
            partition.partition.to_string(),
            or_dash(&partition.owner),
            partition.next_offset.to_string(),
            partition.end_offset.to_string(),
            (partition.end_offset - partition.next_offset).to_string(),
            partition.lost_clicks.to_string(),
            or_dash(&partition.halt_reason),
        ]
    };
    print::table(&heading, &partitions.iter().map(row).collect::<Vec<_>>())
}

fn partition_json(partition: &Partition) -> serde_json::Value {
    json!({
        "partition": partition.partition,
        "owner": partition.owner,
        "nextOffset": partition.next_offset,
        "endOffset": partition.end_offset,
        "lag": partition.end_offset - partition.next_offset,
        "lostClicks": partition.lost_clicks,
        "haltReason": partition.halt_reason,
    })
}

fn letter_row(letter: &DeadLetter) -> Vec<String> {
    vec![
        letter.partition.to_string(),
        or_dash(&incarnation(letter)),
        letter.number.to_string(),
        letter.reason.clone(),
        time(letter.create_time).unwrap_or_else(|| "-".to_owned()),
        time(letter.redrive_time).unwrap_or_else(|| "-".to_owned()),
        letter.detail.clone(),
    ]
}

fn letter_json(letter: &DeadLetter) -> serde_json::Value {
    let payload: String = letter.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "partition": letter.partition,
        "incarnation": incarnation(letter),
        "number": letter.number,
        "reason": letter.reason,
        "detail": letter.detail,
        "payload": payload,
        "createTime": time(letter.create_time),
        "redriveTime": time(letter.redrive_time),
    })
}

fn incarnation(letter: &DeadLetter) -> String {
    Uuid::from_slice(&letter.incarnation).map_or_else(|_| String::new(), |id| id.to_string())
}

fn time(time: Option<prost_types::Timestamp>) -> Option<String> {
    let time: Timestamp = rpc::time::from_proto("time", &time?).ok()?;
    Some(time.to_string())
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
