"""Rejected records sent again: what would be sent and where, and, where writes are on, sending it.

It works as `wallet rejections resubmit`: of two at once, here or there, the later one ends the earlier one.
"""

from typing import Annotated
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from config.errors import ConfigurationError, WalletError
from config.settings import Settings
from console.api import OfConsole, body_of, reason_in
from console.encoding import position_in, strings, whole_in
from console.guard import from_our_page, knows_token, must_write
from console.jobs import Job, Question, job_of
from console.live import Live
from console.pages import page
from console.problems import Problem, away, wrong
from console.tables import Answer
from operations.rejections.listing import REJECTION_OF, Wanted
from operations.rejections.resubmit import Options, Plan, plan, send
from schemas.records import Reason

router = APIRouter(include_in_schema=False)

#: Records of a dry run that are shown; all are counted.
SHOWN = 50
#: Seconds for a dry run; reading all rejections of a large topic may take longer.
DRY_RUN_S = 30.0
#: Seconds that Kafka gets to answer before it counts as away.
KAFKA_S = 3.0
#: Most bytes of a form, those for each partition that it names the end of, and most fields.
FORM_BYTES, END_BYTES, FORM_FIELDS = 8_192, 40, 20
FORM = "application/x-www-form-urlencoded"
RATE = 500.0

Text = Annotated[str, Field(max_length=64)]


class Filters(BaseModel):
    """Which rejections, as an address or a form says it."""

    reason: Text = ""
    partition: Text = ""
    from_offset: Annotated[str, Field(max_length=19)] = ""
    to_offset: Text = ""
    source: Text = ""

    @property
    def given(self) -> dict[str, str]:
        """Those that say something."""
        return {name: text for name, text in self if text}

    def wanted(self, partitions: int) -> Wanted:
        """The same for `wallet rejections`; Problem 400 for what cannot be."""
        chosen = reason_in(self.reason or None)
        try:
            return Wanted(
                reasons=frozenset({chosen}) if chosen else frozenset(),
                partition=whole_in("partition", self.partition or None, partitions - 1),
                from_offset=whole_in("from_offset", self.from_offset or None),
                to_offset=whole_in("to_offset", self.to_offset or None),
                named=self._named(partitions),
            )
        except ConfigurationError:
            raise wrong("from_offset is after to_offset") from None

    def _named(self, partitions: int) -> frozenset[str] | None:
        if not self.source:
            return None
        partition, offset = position_in("source", self.source)
        if partition >= partitions:
            raise wrong(f"source {self.source}: the pipeline has partitions 0 to {partitions - 1}")
        return frozenset({f"{partition}:{offset}"})


ByAddress = Annotated[Filters, Query()]


@router.get("/rejections/resubmit")
async def dry_run(request: Request, live: OfConsole, filters: ByAddress) -> Response:
    """What would be sent, and where; a form to send it, where writes are on."""
    return page(
        "resubmit.html",
        found=await _planned(request, live, filters),
        filters=filters,
        given=filters.given,
        reasons=[str(one) for one in Reason],
        writes=live.settings.console_writes,
        prefix=live.settings.prefix,
        json=f"/rejections/resubmit.json?{urlencode(filters.given)}",
    )


@router.get("/rejections/resubmit.json")
async def dry_run_json(request: Request, live: OfConsole, filters: ByAddress) -> Response:
    """The same for programs."""
    return JSONResponse(strings(await _planned(request, live, filters)))


async def _planned(request: Request, live: Live, filters: Filters) -> Answer | None:
    """What would happen; None where nothing was asked for."""
    if not filters.given:
        return None
    settings = _briefly(live)
    wanted = filters.wanted(settings.partitions)
    dry_runs: Question[Answer] = request.app.state.dry_runs
    try:
        return await dry_runs.ask(request, lambda stop: _listed(plan(settings, wanted, Options(), stop=stop)))
    except WalletError as error:
        raise away(str(error)) from None


def _listed(planned: Plan) -> Answer:
    shown: list[Answer] = []
    for one in planned.again:
        if len(shown) < SHOWN:
            key = None if one.key is None else one.key.decode(errors="backslashreplace")
            of = dict(one.headers)[REJECTION_OF]
            shown.append(
                {
                    "source": (of or b"").decode(),
                    "partition": one.partition,
                    "key": key,
                    "bytes": len(one.value or b""),
                }
            )
    return _outcome(planned) | {
        "shown": shown,
        "ends": {str(at): str(end) for at, end in planned.ends.items()},
    }


def _outcome(planned: Plan) -> Answer:
    outcome = planned.outcome
    return {
        "looked_at": planned.count,
        "records": outcome.resubmitted.total(),
        "reasons": dict(sorted(outcome.resubmitted.items())),
        "skipped": dict(sorted(outcome.skipped.items())),
        "not_found": outcome.not_found,
    }


@router.post("/rejections/resubmit")
async def execute(request: Request, live: OfConsole) -> Response:
    """Send what a form names; the answer is the page that shows how far it is."""
    must_write(live.settings)
    from_our_page(request)  # before its body is read
    settings = _briefly(live)
    form = await _form(request, FORM_BYTES + END_BYTES * settings.partitions)
    header = request.headers.get("authorization", "")
    if not knows_token(settings, f"Bearer {form.get('token', '')}", header):
        raise Problem(401, "nothing was sent: the token is not this console's (WALLET_CONSOLE_TOKEN)")
    if form.get("confirm") != "yes":
        raise wrong("nothing was sent: confirm it")
    # Without its own checks, which are of an address: `wanted` checks all that it reads.
    filters = Filters.model_construct(None, **{name: form.get(name, "") for name in Filters.model_fields})
    if not filters.given:
        raise wrong("nothing was sent: say what to resubmit")
    wanted = filters.wanted(settings.partitions)
    ends = _ends_in(form.get("ends", ""))

    def work(job: Job) -> Answer:
        planned = plan(settings, wanted, Options(execute=True), ends)
        job.count = planned.count

        def advance(done: int) -> None:
            job.done = done

        send(planned, RATE, advance)
        return _outcome(planned)

    if not job_of(request, "resubmission").start(filters.given, work):
        raise Problem(409, "nothing was sent: a resubmission is in hand, see /rejections/resubmit/progress")
    return RedirectResponse("/rejections/resubmit/progress", 303)


def _ends_in(text: str) -> dict[int, int]:
    """Where the dry run that a form comes from ended, by partition; Problem 400 for a form of none."""
    if not text:
        raise wrong("nothing was sent: send the form of a dry run, whose `ends` say what it showed")
    return dict(position_in("ends", one) for one in text.split(","))


@router.get("/rejections/resubmit/progress")
async def progress(request: Request, live: OfConsole) -> Response:
    """How far the newest resubmission of this console is."""
    return page(
        "resubmitting.html", job=job_of(request, "resubmission").fields(), prefix=live.settings.prefix,
        json="/rejections/resubmit/progress.json",
    )  # fmt: skip


@router.get("/rejections/resubmit/progress.json")
async def progress_json(request: Request) -> Response:
    """The same for programs."""
    return JSONResponse(strings(job_of(request, "resubmission").fields()))


def _briefly(live: Live) -> Settings:
    _ = live.freshness  # 503 until Kafka was reached
    return live.settings.model_copy(update={"startup_wait_s": KAFKA_S})


async def _form(request: Request, most_bytes: int) -> dict[str, str]:
    """The fields of a small form."""
    body = await body_of(request, "form", FORM, most_bytes)
    try:
        found = parse_qs(body.decode("latin-1"), keep_blank_values=True, max_num_fields=FORM_FIELDS)
    except ValueError:
        raise wrong(f"nothing was sent: the form has more than {FORM_FIELDS} fields") from None
    return {name: values[-1] for name, values in found.items()}
