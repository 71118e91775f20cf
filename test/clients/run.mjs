// One client package does every job of a list, one after another and then all at once: run.mjs PACKAGE URL < graphs.json.
// A line of JSON for each: {"job": index, "images": [base64]}. Packages stand in $CLIENTS/node_modules.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";

const require = createRequire(process.env.CLIENTS + "/");
const [name, url] = process.argv.slice(2);
const graphs = JSON.parse(readFileSync(0, "utf8"));
const host = new URL(url).host;
const base64 = async (blob) => Buffer.from(await blob.arrayBuffer()).toString("base64");
const fetched = async (address) => base64(await (await fetch(address)).blob());

const clients = {
  "@saintno/comfyui-sdk": async () => {
    const { ComfyApi, CallWrapper, PromptBuilder } = require(name);
    const api = await new ComfyApi(url, randomUUID()).init();
    await api.waitForReady?.();
    const run = (graph) =>
      new Promise((done, failed) => {
        const prompt = new PromptBuilder(graph, [], ["images"]).setOutputNode("images", "9");
        new CallWrapper(api, prompt)
          .onFinished((data) => done(Promise.all(data.images.images.map((i) => fetched(api.getPathImage(i))))))
          .onFailed(failed)
          .run();
      });
    return { run, close: () => api.destroy() };
  },
  "@stable-canvas/comfyui-client": async () => {
    const { Client } = require(name);
    const client = new Client({ api_host: host, WebSocket: require("ws"), fetch });
    client.connect();
    const images = (out) =>
      Promise.all(out.images.map((i) => (i.type === "url" ? fetched(i.data) : Buffer.from(i.data).toString("base64"))));
    let polls = 0;
    const run = async (graph) => images(await (polls++ % 2 ? client.enqueue_polling(graph) : client.enqueue(graph)));
    return { run, close: () => client.close() };
  },
  "comfy-ui-client": async () => {
    const { ComfyUIClient } = require(name);
    const run = async (graph) => {
      const client = new ComfyUIClient(host, randomUUID());
      await client.connect();
      const images = await client.getImages(graph);
      await client.disconnect();
      return Promise.all(images["9"].map((i) => base64(i.blob)));
    };
    return { run, close: () => {} };
  },
};

console.info = console.log = () => {};
const client = await clients[name]();
const tell = async (job) =>
  process.stdout.write(JSON.stringify({ job, images: await client.run(graphs[job]) }) + "\n");
const half = Math.ceil(graphs.length / 2);
for (let job = 0; job < half; job++) await tell(job);
await Promise.all([...Array(graphs.length - half).keys()].map((k) => tell(half + k)));
await client.close();
process.exit(0);
