// Queues N personalised emails with pg-boss and sends them through the AWS SDK, as its documentation suggests:
// batches are fetched, sent with a bounded number of calls at once, and completed as a batch.
//   node send.mjs EMAILS SOCKET_FOLDER DATABASE SES_URL CONCURRENCY HTML_FILE
import { readFileSync } from "node:fs";
import { Agent } from "node:http";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { SESv2Client, SendEmailCommand } from "@aws-sdk/client-sesv2";
import { PgBoss } from "pg-boss";

const [emails, host, database, endpoint, concurrency, file] = process.argv.slice(2);
const html = readFileSync(file, "utf8");
const boss = new PgBoss({ host, database, user: "postgres" });
boss.on("error", (error) => { throw error; });
await boss.start();
await boss.createQueue("mail");
const jobs = Array.from({ length: Number(emails) }, (_, n) => ({
  data: { to: `lead${n}@example.com`, contact_name: `Ann${n} Lee`, company_name: `Company ${n}`, city: "Porto",
          country: "Portugal", job_title: "Owner" },
}));
for (let n = 0; n < jobs.length; n += 1000) await boss.insert("mail", jobs.slice(n, n + 1000));

const ses = new SESv2Client({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "test", secretAccessKey: "test" },
  maxAttempts: 1,
  requestHandler: new NodeHttpHandler({ httpAgent: new Agent({ keepAlive: true, maxSockets: Number(concurrency) }) }),
});
const fill = (text, data) => text.replace(/\{\{ (\w+) \}\}/g, (_, name) => data[name]);
const send = ({ data }) =>
  ses.send(new SendEmailCommand({
    FromEmailAddress: "Sales <sales@example.com>",
    Destination: { ToAddresses: [data.to] },
    Content: { Simple: {
      Subject: { Data: `${data.contact_name}, an idea for ${data.company_name}`, Charset: "UTF-8" },
      Body: { Html: { Data: fill(html, data), Charset: "UTF-8" },
              Text: { Data: `Dear ${data.contact_name}`, Charset: "UTF-8" } },
    } },
    ConfigurationSetName: "sendledger",
  }));

const cpu = process.cpuUsage();
const started = performance.now();
let sent = 0;
let next = boss.fetch("mail", { batchSize: 500 });
for (;;) {
  const batch = await next;
  if (!batch?.length) break;
  next = boss.fetch("mail", { batchSize: 500 }); // while this batch is being sent
  const queue = [...batch];
  await Promise.all(Array.from({ length: Number(concurrency) }, async () => {
    for (let job; (job = queue.pop()); ) { await send(job); sent += 1; }
  }));
  await boss.complete("mail", batch.map((job) => job.id));
}
const seconds = (performance.now() - started) / 1000;
const used = process.cpuUsage(cpu);
console.log(JSON.stringify({ emails: sent, seconds, cpu: (used.user + used.system) / 1e6,
                             peak_mb: process.resourceUsage().maxRSS / 1024 }));
await boss.stop({ graceful: false });
process.exit(0);
