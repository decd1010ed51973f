// What tests left at the engine. Reads a list of containers, networks, volumes or images as the engine's API answers it
// (stdin) and prints the names of those that carry a test's label and are older than the given seconds.
// Usage: leftovers.mjs SECONDS LABEL...
const [seconds, ...labels] = process.argv.slice(2);

let text = '';
for await (const chunk of process.stdin) text += chunk;
const answer = JSON.parse(text || '[]');
const objects = Array.isArray(answer) ? answer : (answer.Volumes ?? []);

// Containers and images tell seconds since 1970; networks and volumes RFC 3339.
const createdMs = (object) =>
  typeof object.Created === 'number' ? object.Created * 1000 : Date.parse(object.Created ?? object.CreatedAt);

for (const object of objects) {
  const ours = labels.some((label) => label in (object.Labels ?? {}));
  if (ours && Date.now() - createdMs(object) > Number(seconds) * 1000) console.log(object.Id ?? object.Name);
}
