//! AnalyticsService: counts, series, breakdowns, live clicks.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use proto::analytics::v1::BreakDownClicksRequest;
use proto::analytics::v1::BreakDownClicksResponse;
use proto::analytics::v1::ClickInterval;
use proto::analytics::v1::CountClicksRequest;
use proto::analytics::v1::CountClicksResponse;
use proto::analytics::v1::IntervalLength;
use proto::analytics::v1::ListClickIntervalsRequest;
use proto::analytics::v1::ListClickIntervalsResponse;
use proto::analytics::v1::WatchClicksRequest;
use proto::analytics::v1::WatchClicksResponse;
use proto::analytics::v1::analytics_service_server::AnalyticsService;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use super::breakdown;
use super::failed;
use super::range;
use super::range::Subject;
use super::watch;
use crate::consume::tail::Tail;
use crate::domain::counts::Counts;
use crate::domain::interval;
use crate::domain::interval::CutError;
use crate::domain::interval::Length;
use crate::domain::packed::unpack_minutes;
use crate::domain::quarter::DAY_MICROS;
use crate::domain::quarter::MINUTE_MICROS;
use crate::domain::quarter::MinuteRange;
use crate::domain::quarter::Quarter;
use crate::domain::visitors::Uniques;
use crate::store::Error;
use crate::store::Store;

/// What is answered when no range is asked for.
pub(super) const RANGE_DEFAULT_MICROS: i64 = 30 * DAY_MICROS;

/// The calls of AnalyticsService.
#[derive(Clone, Debug)]
pub(crate) struct AnalyticsApi {
    pub(crate) store: Store,
    pub(crate) tail: Arc<Tail>,
}

#[tonic::async_trait]
impl AnalyticsService for AnalyticsApi {
    async fn count_clicks(
        &self,
        request: Request<CountClicksRequest>,
    ) -> Result<Response<CountClicksResponse>, Status> {
        let asked = request.get_ref();
        let subject = Subject::of(&request, &asked.parent, &asked.links)?;
        let (start, end) = range::range(
            asked.start_time.as_ref(),
            asked.end_time.as_ref(),
            Timestamp::now(),
            RANGE_DEFAULT_MICROS,
        )?;
        let answer = self.count(&subject, MinuteRange::cut(start, end)).await;
        Ok(Response::new(answer.map_err(|error| failed(&error))?))
    }

    async fn list_click_intervals(
        &self,
        request: Request<ListClickIntervalsRequest>,
    ) -> Result<Response<ListClickIntervalsResponse>, Status> {
        let asked = request.get_ref();
        let subject = Subject::of(&request, &asked.parent, &asked.links)?;
        let length = length(asked.length)?;
        let zone = zone(&asked.time_zone)?;
        let (start, end) = range::range(
            asked.start_time.as_ref(),
            asked.end_time.as_ref(),
            Timestamp::now(),
            length.range_default(),
        )?;
        let boundaries = interval::boundaries(start, end, length, &zone).map_err(cut_refused)?;
        let intervals = self.intervals(&subject, &boundaries, length).await;
        let intervals = intervals.map_err(|error| failed(&error))?;
        Ok(Response::new(ListClickIntervalsResponse { intervals }))
    }

    async fn break_down_clicks(
        &self,
        request: Request<BreakDownClicksRequest>,
    ) -> Result<Response<BreakDownClicksResponse>, Status> {
        let asked = request.get_ref();
        let subject = Subject::of(&request, &asked.parent, &asked.links)?;
        let page = breakdown::page(&self.store, &subject, asked, Timestamp::now()).await?;
        Ok(Response::new(page))
    }

    type WatchClicksStream =
        Pin<Box<dyn Stream<Item = Result<WatchClicksResponse, Status>> + Send>>;

    async fn watch_clicks(
        &self,
        request: Request<WatchClicksRequest>,
    ) -> Result<Response<Self::WatchClicksStream>, Status> {
        let asked = request.get_ref();
        let subject = Subject::of(&request, &asked.parent, &asked.links)?;
        let stream = watch::stream(&self.tail, &subject, &asked.resume_token).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

impl AnalyticsApi {
    async fn count(
        &self,
        subject: &Subject,
        range: MinuteRange,
    ) -> Result<CountClicksResponse, Error> {
        let scope = subject.scope(range.quarters());
        let cut = range.cut_quarters();
        let mut total = Counts::default();
        for (quarter, counts) in self.store.quarter_counts(&scope).await? {
            if !cut.contains(&quarter) {
                total.add(counts);
            }
        }
        for quarter in cut {
            let inside = range.minutes_of(quarter);
            let scope = subject.scope(quarter.0..quarter.0 + 1);
            let add = |_, packed: &[u8]| {
                let minutes = unpack_minutes(packed)?;
                minutes[inside.clone()].iter().for_each(|minute| total.add(*minute));
                Ok(())
            };
            self.store.each_minutes(&scope, add).await?;
        }
        let mut uniques = Uniques::default();
        let see = |quarter: Quarter, packed: &[u8]| Ok(uniques.see(quarter.day(), packed)?);
        self.store.each_visitors(&scope, see).await?;
        Ok(CountClicksResponse { counts: Some(range::counts(total, uniques.sum())) })
    }

    async fn intervals(
        &self,
        subject: &Subject,
        boundaries: &[i64],
        length: Length,
    ) -> Result<Vec<ClickInterval>, Error> {
        let (Some(first), Some(last)) = (boundaries.first(), boundaries.last()) else {
            return Ok(Vec::new());
        };
        let mut counted = vec![Counts::default(); boundaries.len() - 1];
        let mut visitors: Vec<Uniques> = Vec::new();
        let range = MinuteRange::cut(*first, *last);
        let scope = subject.scope(range.quarters());
        // Which interval a moment of the range lies in.
        let place = |micros: i64| boundaries.partition_point(|boundary| *boundary <= micros) - 1;
        if length == Length::Minute {
            let add = |quarter: Quarter, packed: &[u8]| {
                let minutes = unpack_minutes(packed)?;
                for minute in range.minutes_of(quarter) {
                    let offset = i64::try_from(minute).expect("0 to 14") * MINUTE_MICROS;
                    counted[place(quarter.start_micros() + offset)].add(minutes[minute]);
                }
                Ok(())
            };
            self.store.each_minutes(&scope, add).await?;
        } else {
            for (quarter, counts) in self.store.quarter_counts(&scope).await? {
                counted[place(quarter.start_micros())].add(counts);
            }
            visitors.resize_with(counted.len(), Uniques::default);
            let see = |quarter: Quarter, packed: &[u8]| {
                Ok(visitors[place(quarter.start_micros())].see(quarter.day(), packed)?)
            };
            self.store.each_visitors(&scope, see).await?;
        }
        let visitors = visitors.into_iter().map(Uniques::sum).chain(std::iter::repeat(0));
        let intervals = boundaries.windows(2).zip(counted).zip(visitors);
        let intervals = intervals.map(|((boundaries, counts), visitors)| ClickInterval {
            start_time: range::time(boundaries[0]),
            end_time: range::time(boundaries[1]),
            counts: Some(range::counts(counts, visitors)),
        });
        Ok(intervals.collect())
    }
}

fn length(number: i32) -> Result<Length, rpc::Error> {
    match IntervalLength::try_from(number) {
        Ok(IntervalLength::Minute) => Ok(Length::Minute),
        Ok(IntervalLength::Hour) => Ok(Length::Hour),
        Ok(IntervalLength::Day | IntervalLength::Unspecified) => Ok(Length::Day),
        Err(_) => Err(rpc::Error::invalid("length", "must be a minute, an hour or a day")),
    }
}

fn zone(name: &str) -> Result<TimeZone, rpc::Error> {
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        let why = format!(
            "must be an IANA time zone such as `Asia/Kathmandu`, is `{}`",
            name.escape_debug()
        );
        rpc::Error::invalid("time_zone", why)
    })
}

fn cut_refused(error: CutError) -> rpc::Error {
    let field = match error {
        CutError::TooMany => "end_time",
        CutError::Offset => "time_zone",
        CutError::Calendar => "start_time",
    };
    rpc::Error::invalid(field, error.to_string())
}
