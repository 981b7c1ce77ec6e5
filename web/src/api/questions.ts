// What several views ask for.

import { type Schemas, api, ask } from './client';

export type Catalogue = Schemas['Catalogue'];
export type Preview = Schemas['Preview'];
export type Forecast = Schemas['Forecast'];
export type ExperimentSummary = Schemas['ExperimentSummary'];

export type ResultsQuery = {
  compare?: 'published';
  seeds?: string;
  methods?: string;
  datasets?: string;
};

export function catalogue(): Promise<Catalogue> {
  return ask(api.GET('/api/v1/catalogue'));
}

export function preview(body: Schemas['ExperimentDocument']): Promise<Preview> {
  return ask(api.POST('/api/v1/experiments/preview', { body }));
}

export function forecast(id: number): Promise<Forecast> {
  return ask(api.GET('/api/v1/experiments/{id}/forecast', { params: { path: { id } } }));
}

export async function results(id: number, query: ResultsQuery): Promise<Schemas['Results']> {
  // Without a format it's the table as data; the types know of the others too.
  return (await ask(api.GET('/api/v1/experiments/{id}/results', { params: { path: { id }, query } }))) as Schemas['Results'];
}
