"""A charge point of the independent package `ocpp`, in the version asked for, against a running edge.

Usage: station.py URL IDENTITY VERSION [PASSWORD]      VERSION: 1.6, 2.0.1 or 2.1

It boots, begins a transaction, tells its meter and what its vehicle needs, takes what it is told, loses its
connection, comes back, tells late what happened meanwhile, and unplugs. Every frame that it receives is checked
against the JSON schemas that the package carries. Prints one JSON document: the calls it took, by action. Ends with
an error if anything was not as the standard asks.
"""

import asyncio
import base64
import json
import logging
import sys
from datetime import datetime, timedelta, timezone

import websockets
from ocpp import messages, v16, v21, v201
from ocpp.routing import on

PATIENCE = 120
BEGIN = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(minutes=30)


def at(seconds):
    return (BEGIN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


class Checked:
    """A connection that checks what comes in before anybody else sees it."""

    def __init__(self, socket, version):
        self.socket, self.version, self.asked = socket, version, {}
        self.frames = 0

    async def recv(self):
        raw = await self.socket.recv()
        message = messages.unpack(raw)
        if isinstance(message, messages.CallError):
            raise AssertionError(f"refused: {raw}")
        if isinstance(message, messages.CallResult):
            message.action = self.asked.pop(message.unique_id)
        await messages.validate_payload(message, self.version)
        self.frames += 1
        return raw

    async def send(self, raw):
        message = messages.unpack(raw)
        if isinstance(message, messages.Call):
            self.asked[message.unique_id] = message.action
        await self.socket.send(raw)


class Inbox:
    """What the station was told, in order."""

    def __init__(self):
        self.queue, self.taken, self.noted = asyncio.Queue(), {}, {}

    def note(self, action):
        """Takes a call that may come at any time."""
        self.noted[action] = self.noted.get(action, 0) + 1

    def put(self, action, payload):
        self.taken.setdefault(action, []).append(payload)
        self.queue.put_nowait((action, payload))

    async def next(self, action):
        found, payload = await asyncio.wait_for(self.queue.get(), PATIENCE)
        assert found == action, f"expected {action}, met {found}: {payload}"
        return payload


def station16(inbox):
    class Station(v16.ChargePoint):
        @on("SetChargingProfile")
        def set_profile(self, **payload):
            inbox.put("SetChargingProfile", payload)
            return v16.call_result.SetChargingProfile(status="Accepted")

    return Station


def named(asked):
    return {"component": asked["component"], "variable": asked["variable"]}


def known(asked):
    """What a station says of itself: it has event streams, and knows nothing else."""
    result = named(asked)
    if asked["variable"]["name"] == "MaxPeriodicEventStreams":
        return result | {"attribute_status": "Accepted", "attribute_value": "2"}
    return result | {"attribute_status": "UnknownVariable"}


def station2(version, inbox):
    class Station(version.ChargePoint):
        @on("SetChargingProfile")
        def set_profile(self, **payload):
            inbox.put("SetChargingProfile", payload)
            return version.call_result.SetChargingProfile(status="Accepted")

        @on("GetVariables")
        def get_variables(self, get_variable_data, **payload):
            inbox.note("GetVariables")
            return version.call_result.GetVariables([known(asked) for asked in get_variable_data])

        @on("SetVariables")
        def set_variables(self, set_variable_data, **payload):
            inbox.note("SetVariables")
            results = [named(asked) | {"attribute_status": "Accepted"} for asked in set_variable_data]
            return version.call_result.SetVariables(results)

        if version is v21:

            @on("SetVariableMonitoring")
            def monitor(self, set_monitoring_data, **payload):
                inbox.note("SetVariableMonitoring")
                results = [
                    named(asked)
                    | {"status": "Accepted", "id": number, "type": asked["type"], "severity": asked["severity"]}
                    for number, asked in enumerate(set_monitoring_data, 1)
                ]
                return v21.call_result.SetVariableMonitoring(results)

            @on("UpdateDynamicSchedule")
            def update(self, **payload):
                inbox.put("UpdateDynamicSchedule", payload)
                return v21.call_result.UpdateDynamicSchedule(status="Accepted")

            @on("AFRRSignal")
            def signal(self, **payload):
                inbox.put("AFRRSignal", payload)
                return v21.call_result.AFRRSignal(status="Accepted")

    return Station


class Line:
    """One connection after the other of the same station."""

    def __init__(self, url, identity, version, password, kind):
        self.url, self.identity, self.version = f"{url}/{identity}", identity, version
        self.password, self.kind = password, kind
        self.frames = 0

    async def __aenter__(self):
        headers = {}
        if self.password:
            key = base64.b64encode(f"{self.identity}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {key}"
        self.socket = await websockets.connect(
            self.url, subprotocols=[f"ocpp{self.version}"], additional_headers=headers
        )
        assert self.socket.subprotocol == f"ocpp{self.version}", self.socket.subprotocol
        self.checked = Checked(self.socket, self.version)
        self.point = self.kind(self.identity, self.checked)
        self.reading = asyncio.create_task(self.point.start())
        return self

    async def __aexit__(self, *failed):
        # Without a goodbye, as a mobile link ends.
        self.reading.cancel()
        self.frames += self.checked.frames
        self.socket.transport.abort()

    async def call(self, payload):
        """A call that has to be answered; an unreadable frame meanwhile ends the run."""
        asked = asyncio.create_task(self.point.call(payload, suppress=False))
        done, _ = await asyncio.wait(
            {asked, self.reading}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        if self.reading in done:
            self.reading.result()
        assert asked in done, f"not answered: {payload}"
        return asked.result()


def sampled16(seconds, watts, register):
    return {
        "timestamp": at(seconds),
        "sampled_value": [
            {"measurand": "Power.Active.Import", "value": str(watts), "unit": "W"},
            {"measurand": "Energy.Active.Import.Register", "value": str(register), "unit": "Wh"},
        ],
    }


async def charge16(line, inbox):
    call = v16.call
    async with line:
        booted = await line.call(call.BootNotification("Peer", "Independent"))
        assert booted.status == "Accepted", booted
        status = {"connector_id": 1, "error_code": "NoError"}
        await line.call(call.StatusNotification(status="Preparing", **status))
        assert (await line.call(call.Authorize("peer-car"))).id_tag_info["status"] == "Accepted"
        started = await line.call(call.StartTransaction(1, "peer-car", 5000, at(0)))
        number = started.transaction_id
        await line.call(call.MeterValues(1, [sampled16(60, 7000, 5100)], number))
        told = await inbox.next("SetChargingProfile")
        profile = told["cs_charging_profiles"]
        assert profile["transaction_id"] == number, profile
        assert profile["charging_schedule"]["charging_schedule_period"][0]["limit"] == 4000
        await line.call(call.MeterValues(1, [sampled16(120, 4000, 5200)], number))
        await line.call(call.Heartbeat())
    async with line:
        for seconds, register in [(300, 5400), (180, 5250), (240, 5300)]:
            await line.call(call.MeterValues(1, [sampled16(seconds, 4000, register)], number))
        await line.call(call.StopTransaction(5500, at(360), number, reason="EVDisconnected"))
        await line.call(call.StatusNotification(status="Available", **status))


def sampled2(seconds, watts, register, export):
    def sample(measurand, value, unit):
        return {"measurand": measurand, "value": value, "unit_of_measure": {"unit": unit}}

    return {
        "timestamp": at(seconds),
        "sampled_value": [
            sample("Power.Active.Import", max(watts, 0), "W"),
            sample("Power.Active.Export", max(-watts, 0), "W"),
            sample("Energy.Active.Import.Register", register, "Wh"),
            sample("Energy.Active.Export.Register", export, "Wh"),
        ],
    }


class Transaction:
    """Events of one transaction, numbered."""

    def __init__(self, line, call):
        self.line, self.call, self.sequence = line, call, 0

    async def tell(self, kind, trigger, seconds, watts, register, export=0, offline=False):
        event = self.call.TransactionEvent(
            event_type=kind,
            timestamp=at(seconds),
            trigger_reason=trigger,
            seq_no=self.sequence,
            transaction_info={"transaction_id": "peer-tx"},
            meter_value=[sampled2(seconds, watts, register, export)],
            evse={"id": 1},
            id_token={"id_token": "peer-car", "type": "Central"},
            offline=offline,
        )
        self.sequence += 1
        await self.line.call(event)


async def begin2(line, call):
    booted = await line.call(
        call.BootNotification(
            charging_station={"model": "Independent", "vendor_name": "Peer"}, reason="PowerUp"
        )
    )
    assert booted.status == "Accepted", booted
    await line.call(call.StatusNotification(
            timestamp=at(0), connector_status="Occupied", evse_id=1, connector_id=1
        ))
    token = {"id_token": "peer-car", "type": "Central"}
    authorised = await line.call(call.Authorize(id_token=token))
    assert authorised.id_token_info["status"] == "Accepted", authorised
    transaction = Transaction(line, call)
    await transaction.tell("Started", "CablePluggedIn", 0, 0, 5000)
    return transaction


async def replay2(line, transaction):
    """What happened while the connection was away, out of order."""
    late = {"offline": True}
    for seconds, register in [(300, 5400), (180, 5250), (240, 5300)]:
        await transaction.tell("Updated", "MeterValuePeriodic", seconds, 4000, register, 100, **late)
    await transaction.tell("Ended", "EVDeparted", 360, 0, 5500, 100, **late)
    await line.call(transaction.call.StatusNotification(
            timestamp=at(360), connector_status="Available", evse_id=1, connector_id=1
        ))


async def charge201(line, inbox):
    call = v201.call
    async with line:
        transaction = await begin2(line, call)
        needs = {
            "requested_energy_transfer": "AC_three_phase",
            "departure_time": at(8 * 3600),
            "ac_charging_parameters": {
                "energy_amount": 12000,
                "ev_min_current": 6,
                "ev_max_current": 16,
                "ev_max_voltage": 230,
            },
        }
        answered = await line.call(call.NotifyEVChargingNeeds(charging_needs=needs, evse_id=1))
        assert answered.status == "Processing", answered
        told = await inbox.next("SetChargingProfile")
        profile = told["charging_profile"]
        assert profile["transaction_id"] == "peer-tx", profile
        assert profile["charging_schedule"][0]["charging_schedule_period"][0]["limit"] == 4000
        await transaction.tell("Updated", "MeterValuePeriodic", 120, 4000, 5200)
        await line.call(call.MeterValues(1, [sampled2(130, 4000, 5210, 0)]))
    async with line:
        await replay2(line, transaction)


async def charge21(line, inbox):
    call = v21.call
    async with line:
        transaction = await begin2(line, call)
        needs = {
            "requested_energy_transfer": "DC_BPT",
            "control_mode": "DynamicControl",
            "departure_time": at(8 * 3600),
            "dc_charging_parameters": {
                "ev_max_current": 30,
                "ev_max_voltage": 400,
                "ev_energy_capacity": 60000,
                "state_of_charge": 50,
            },
            "v2x_charging_parameters": {
                "max_charge_power": 11000,
                "max_discharge_power": 9000,
                "ev_target_energy_request": 15000,
                "ev_max_energy_request": 30000,
                "ev_min_v2x_energy_request": -18000,
            },
        }
        answered = await line.call(call.NotifyEVChargingNeeds(charging_needs=needs, evse_id=1, timestamp=at(1)))
        assert answered.status == "Processing", answered
        await discharge21(line, inbox, transaction)
        await follow21(line, inbox)
        await line.call(call.NotifyPriorityCharging(activated=True, transaction_id="peer-tx"))
        await line.call(call.Heartbeat())
    async with line:
        await replay2(line, transaction)


async def discharge21(line, inbox, transaction):
    told = await inbox.next("SetChargingProfile")
    period = told["charging_profile"]["charging_schedule"][0]["charging_schedule_period"][0]
    assert period["operation_mode"] == "CentralSetpoint", period
    assert period["setpoint"] == -7400, period
    await transaction.tell("Updated", "OperationModeChanged", 60, -7400, 5100, 50)
    told = await inbox.next("UpdateDynamicSchedule")
    assert told["schedule_update"]["setpoint"] == 3000, told
    profile = told["charging_profile_id"]
    pulled = await line.call(v21.call.PullDynamicScheduleUpdate(profile))
    assert pulled.schedule_update["setpoint"] == 3000, pulled
    await transaction.tell("Updated", "MeterValuePeriodic", 120, 3000, 5200, 100)


async def follow21(line, inbox):
    """A curve for the balancing signal, then the signal."""
    told = await inbox.next("SetChargingProfile")
    period = told["charging_profile"]["charging_schedule"][0]["charging_schedule_period"][0]
    assert period["operation_mode"] == "CentralFrequency", period
    curve = [(p["signal"], p["power"]) for p in period["v2x_signal_watt_curve"]]
    assert curve == [(-100, -5000), (0, 0), (100, 5000)], curve
    assert period["v2x_baseline"] == 1000, period
    told = await inbox.next("AFRRSignal")
    assert told["signal"] == -40, told


async def main(url, identity, version, password=None):
    inbox = Inbox()
    kind, charge = {
        "1.6": (station16(inbox), charge16),
        "2.0.1": (station2(v201, inbox), charge201),
        "2.1": (station2(v21, inbox), charge21),
    }[version]
    line = Line(url, identity, version, password, kind)
    await charge(line, inbox)
    taken = {action: len(payloads) for action, payloads in inbox.taken.items()}
    print(json.dumps({"frames": line.frames, "taken": taken, "asked": inbox.noted}))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 5 * PATIENCE))
