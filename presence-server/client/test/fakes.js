import { mock } from "node:test"

/** Replaces the timers until `restore`; `tick(ms)` lets time pass. */
export function fakeTimers() {
  mock.timers.enable({ apis: ["setTimeout", "Date"] })
  // A millisecond at a time, so that timers which start others do so at their own time.
  const tick = ms => {
    for (let passed = 0; passed < ms; passed++) mock.timers.tick(1)
  }
  return { tick, restore: () => mock.timers.reset() }
}

/** Lets promises that are settled, and what follows from them, run. */
export async function settled() {
  for (let turn = 0; turn < 20; turn++) await new Promise(resolve => setImmediate(resolve))
}

/** A WebSocket whose other end is the test. `FakeWebSocket.all` lists those that were made. */
export class FakeWebSocket {
  static all = []
  static get last() {
    return this.all.at(-1)
  }

  readyState = 0
  bufferedAmount = 0
  sent = []
  answersClose = true

  constructor(url, protocols) {
    Object.assign(this, { url, protocols })
    FakeWebSocket.all.push(this)
  }

  send(data) {
    if (this.readyState !== 1) throw new Error("not open")
    this.sent.push(data)
  }

  close(code, reason) {
    if (this.readyState >= 2) return
    this.closedWith = { code, reason }
    this.readyState = 2
    if (this.answersClose) setTimeout(() => this.end(code ?? 1005), 5)
  }

  open() {
    this.readyState = 1
    this.onopen?.({})
  }

  end(code) {
    if (this.readyState === 3) return
    this.readyState = 3
    this.onclose?.({ code, reason: "", wasClean: code !== 1006 })
  }

  /** The server cannot be reached. */
  refuse() {
    this.readyState = 3
    this.onerror?.({ type: "error" })
    this.onclose?.({ code: 1006, reason: "", wasClean: false })
  }

  receive(...message) {
    this.onmessage?.({ data: JSON.stringify(message) })
  }

  receiveBinary(bytes) {
    this.onmessage?.({ data: bytes })
  }

  /** What was sent, parsed, heartbeats apart. */
  get frames() {
    return this.sent.filter(it => typeof it === "string").map(it => JSON.parse(it)).filter(it => it[2] !== "phoenix")
  }

  /** Answers the latest join of a topic, and returns its ref. */
  answerJoin(topic, status = "ok", response = {}) {
    const join = this.frames.filter(it => it[2] === topic && it[3] === "phx_join").at(-1)
    this.receive(join[0], join[1], topic, "phx_reply", { status, response })
    return join[0]
  }
}
