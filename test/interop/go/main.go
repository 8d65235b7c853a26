// Publishes and fetches with stock grpc-go stubs, compiled from the shipped .proto files.
//
// usage: interop ENDPOINT TOPIC COUNT
// Prints one line per record that it read back: partition, offset, body.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "flotilla.dev/interop/flotillav1"
)

func records(first, count int) *pb.RecordBatch {
	batch := &pb.RecordBatch{}
	for i := 0; i < count; i++ {
		batch.Records = append(batch.Records, &pb.Record{Key: []byte("k"), Body: []byte(fmt.Sprintf("go %d", first+i))})
	}
	return batch
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	endpoint, topic := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()
	messaging := pb.NewMessagingClient(connection)
	_, err = pb.NewAdminClient(connection).CreateTopic(ctx, &pb.CreateTopicRequest{Name: topic, Partitions: 1, Replicas: 3})
	check(err)
	partition := uint32(0)
	for i := 0; i < count; i++ {
		answer, err := messaging.Publish(ctx, &pb.PublishRequest{Topic: topic, Partition: &partition, Records: records(i, 1), Count: 1})
		check(err)
		if answer.BaseOffset != uint64(i) {
			log.Fatalf("offset %d instead of %d", answer.BaseOffset, i)
		}
	}
	publishStream(ctx, messaging, topic, count)
	fetch(ctx, messaging, topic, uint64(2*count))
	_, err = messaging.Publish(ctx, &pb.PublishRequest{Topic: "missing", Records: records(0, 1)})
	fmt.Println("error", status.Code(err))
}

func publishStream(ctx context.Context, messaging pb.MessagingClient, topic string, count int) {
	stream, err := messaging.PublishStream(ctx)
	check(err)
	for i := 0; i < count; i++ {
		request := &pb.PublishStreamRequest{Batches: []*pb.PublishBatch{{Id: uint64(i + 1), Sequence: uint64(i), Count: 1, Records: records(count+i, 1)}}}
		if i == 0 {
			request.Open = &pb.PublishOpen{Topic: topic, ProducerId: 4712}
		}
		check(stream.Send(request))
	}
	check(stream.CloseSend())
	acked := 0
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			break
		}
		check(err)
		for _, ack := range response.Acks {
			if ack.Error != nil {
				log.Fatal(ack.Error)
			}
			acked += int(ack.Batches)
		}
	}
	if acked != count {
		log.Fatalf("%d batches acknowledged, not %d", acked, count)
	}
}

func fetch(ctx context.Context, messaging pb.MessagingClient, topic string, end uint64) {
	for offset := uint64(0); offset < end; {
		position := &pb.FetchPosition{From: &pb.FetchPosition_Offset{Offset: offset}}
		answer, err := messaging.Fetch(ctx, &pb.FetchRequest{Topic: topic, Positions: []*pb.FetchPosition{position}, MaxWaitMs: 1000})
		check(err)
		part := answer.Partitions[0]
		if part.Error != nil {
			log.Fatal(part.Error)
		}
		for _, batch := range part.Batches {
			for i, record := range batch.Records.Records {
				fmt.Println(part.Partition, batch.BaseOffset+uint64(i), string(record.Body))
			}
		}
		offset = part.NextOffset
	}
}
