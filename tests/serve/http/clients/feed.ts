// A program on the types of openapi-typescript; `tsc --strict` reads it, and nothing runs it.

import type { components, paths } from "./schema";

type Schemas = components["schemas"];
type Answer = paths["/v1/feed"]["post"]["responses"][200]["content"]["application/json"];

export const least: Schemas["FeedRequest"] = { user_id: "me" };
export const item: Schemas["ItemBody"] = { item_id: "clip-1", title: "One pan pasta" };

// @ts-expect-error a request needs its user
export const nobody: Schemas["FeedRequest"] = { size: 3 };

export function titles(page: Answer): string[] {
  return page.items.map((card) => card.item.title ?? "untitled");
}

export function shout(card: Schemas["CardBody"]): string {
  // @ts-expect-error a title is left out where there is none
  return card.item.title.toUpperCase();
}

export function share(upload: Schemas["GuaranteeBody"]): boolean {
  return upload.unreachable; // an answer that leaves nothing out always has it
}

export function promoted(day: Schemas["DayBody"]): number {
  return day.promoted.reduce((sum, n) => sum + n, 0);
}
