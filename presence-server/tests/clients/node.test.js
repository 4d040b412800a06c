/** phoenix.js and the project's client under Node. */

import * as phoenix from "phoenix"
import { afterEach, beforeEach, describe, test } from "node:test"
import { WebSocket as WsWebSocket } from "ws"
import * as own from "../../client/index.js"
import * as scenarios from "./scenarios.js"
import { Server } from "./server.js"
import { Tab, VERSION_1 } from "./tab.js"

// phoenix.js speaks no other version than 2.0.0 over long polling.
const CLIENTS = {
  "phoenix.js": [phoenix, { transport: WsWebSocket }],
  "phoenix.js, serializer 1.0.0": [phoenix, { transport: WsWebSocket, ...VERSION_1 }],
  "phoenix.js over long polling": [phoenix, { transport: phoenix.LongPoll }],
  "the client": [own, { transport: globalThis.WebSocket ?? WsWebSocket }],
  "the client over long polling": [own, { transport: own.LongPoll }],
}

for (const [name, [client, options]] of Object.entries(CLIENTS)) {
  describe(name, () => {
    let server
    // This application has the guide's room too, and a short poll window: a client that polled is
    // only missed when a window and a half have passed.
    beforeEach(async () => (server = await Server.start("--app", "conformance")))
    const tabs = []
    afterEach(async () => {
      await Promise.all(tabs.splice(0).map(tab => tab.close()))
      await server?.stop()
    })

    async function open(name) {
      const tab = new Tab(client, server.socket, name, options)
      tabs.push(tab)
      return {
        list: () => tab.list(),
        lists: () => tab.lists,
        joins: () => tab.joins,
        refs: () => tab.refs(),
        metas: key => tab.metas(key),
        changes: () => tab.changes,
        setStatus: status => tab.setStatus(status),
        close: () => tab.close(),
      }
    }

    test("tabs come and go", () => scenarios.comeAndGo(open))
    test("an update is one new meta in place of the old", () => scenarios.update(open))
    test("the server stops and is started again", () => scenarios.restart(open, server, "SIGTERM"))
    test("the server is killed and started again", () => scenarios.restart(open, server, "SIGKILL"))
  })
}
